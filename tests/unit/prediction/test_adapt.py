"""A network's normalisation, measured on a volume that looks different."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import noise_volume, small_model
from torch import nn

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi
from cellseg3d.datasets.likeness import profile_of, volume_features
from cellseg3d.io.registry import read_labels
from cellseg3d.prediction import adapt
from cellseg3d.prediction.adapt import adapted, layers_of
from cellseg3d.prediction.field import VolumeField
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment, segment_to_file


def _network(dims: int) -> nn.Module:
    torch.manual_seed(3)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    norm = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
    network = nn.Sequential(
        conv(1, 4, 3, padding=1), norm(4), nn.ReLU(), conv(4, 2, 1), norm(2)
    )
    for layer in layers_of(network):
        layer.running_mean.uniform_(-1, 1)
        layer.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize("dims", [2, 3])
def test_statistics_become_those_of_the_windows(dims):
    network = _network(dims)
    windows = [torch.randn(1, 1, *(12,) * dims) * k + k for k in (1, 2, 4)]
    fitted = adapted(network, windows, strength=1.0)
    # All windows have one shape, so they count as one batch.
    features = network[0](torch.cat(windows))
    axes = (0, *range(2, dims + 2))
    mean, variance = features.mean(axes), features.var(axes)
    torch.testing.assert_close(fitted[1].running_mean, mean)
    torch.testing.assert_close(fitted[1].running_var, variance)
    assert not fitted.training
    assert not any(layer.training for layer in fitted.modules())


def test_batches_hold_every_window_once_and_none_alone(monkeypatch):
    monkeypatch.setattr(adapt, "BATCH", 4 * 64)
    windows = [torch.full((1, 1, 8, 8), float(n)) for n in range(5)]
    windows.append(torch.full((1, 1, 4, 4), 9.0))
    found = [batch[:, 0, 0, 0].tolist() for batch in adapt.batches(windows)]
    assert found == [[0.0, 2.0, 4.0], [1.0, 3.0], [9.0]]


def test_windows_of_small_slices_are_mirrored_as_in_prediction():
    # Slices of 8 x 20 are seen as 16 x 20 by a network trained on 16 x 16.
    volume = noise_volume((8, 20, 24))
    model = small_model(2)
    field = VolumeField.measured(volume, model.intensity)
    found = adapt.windows_for(field, model.network, model.spec, "y")
    assert {tuple(window.shape) for window in found} == {(1, 1, 16, 16)}
    slices = np.moveaxis(field.read(Roi.whole(volume.shape))[0], 1, 0)
    grown = np.pad(slices, [(0, 0), (4, 4), (0, 0)], mode="reflect")
    middle = found[0][0, 0].numpy()
    assert np.array_equal(middle, grown[9, :, 4:20])


def test_the_strength_mixes_and_the_given_network_stays():
    network = _network(2)
    before = copy.deepcopy(network.state_dict())
    windows = [3 + torch.randn(1, 1, 16, 16)]
    whole, half, none = (adapted(network, windows, strength=k) for k in (1, 0.5, 0))
    # Later layers see what the first makes of the window, whatever the strength.
    mixed = (whole[4].running_mean + network[4].running_mean) / 2
    torch.testing.assert_close(half[4].running_mean, mixed)
    for key, tensor in before.items():
        assert torch.equal(network.state_dict()[key], tensor)
        if "running" in key or "weight" in key:
            torch.testing.assert_close(none.state_dict()[key], tensor)


def test_weights_stay_and_another_gain_is_undone():
    network = _network(2)
    image = torch.randn(1, 1, 32, 32)
    plain = adapted(network, [image], strength=1.0)
    louder = adapted(network, [7 * image], strength=1.0)
    for key, tensor in network.state_dict().items():
        if "running" not in key and "tracked" not in key:
            assert torch.equal(plain.state_dict()[key], tensor)
    # The first convolution has a bias, so only its gain is undone.
    network[0].bias.data.zero_()
    plain = adapted(network, [image], strength=1.0)
    louder = adapted(network, [7 * image], strength=1.0)
    torch.testing.assert_close(louder(7 * image), plain(image), rtol=1e-3, atol=1e-3)


def test_a_network_without_batch_normalisation_stays_itself():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.InstanceNorm2d(2))
    assert adapted(network, [torch.randn(1, 1, 8, 8)]) is network


def test_an_unknown_choice_is_refused():
    with pytest.raises(ConfigError, match="`adapt` is 'yes'; expected auto, on or off"):
        SegmentOptions(adapt="yes")


def _smooth(volume):
    """A volume of large structures, unlike the noise of the given one."""
    values = volume.read()
    for axis in range(3):
        values = np.cumsum(values - values.mean(), axis, dtype=np.float32)
    return replace(volume, array=values)


def _like(model, volume):
    """The model, as if trained on volumes like this one."""
    features = [volume_features(volume, model.intensity)]
    return replace(model, likeness=profile_of(features))


@pytest.mark.parametrize(("dims", "context"), [(3, 0), (2, 0), (2, 1)])
def test_auto_adapts_to_volumes_that_look_different_only(dims, context, caplog):
    usual = noise_volume((16, 32, 32))
    smooth = _smooth(usual)
    model = _like(small_model(dims, context), usual)
    taken = {}
    for name, volume in (("usual", usual), ("smooth", smooth)):
        for choice in ("auto", "on", "off"):
            options = SegmentOptions(probs=True, adapt=choice, precision="float32")
            found = segment(volume, model, options)
            taken[name, choice] = found.probs
            told = found.provenance["sources"][0].get("adapted", False)
            assert told is (choice == "on" or (choice == "auto" and name == "smooth"))
    assert np.array_equal(taken["usual", "auto"], taken["usual", "off"])
    assert np.array_equal(taken["smooth", "auto"], taken["smooth", "on"])
    assert np.abs(taken["smooth", "on"] - taken["smooth", "off"]).max() > 0.01
    assert "normalisation is measured on this volume" in caplog.text


def test_a_file_is_adapted_to_as_the_same_volume_in_memory(tmp_path):
    volume = noise_volume((24, 40, 40))
    model = small_model()
    options = SegmentOptions(adapt="on", precision="float32")
    whole = np.asarray(segment(volume, model, options).labels.array)
    segment_to_file(volume, model, tmp_path / "labels.zarr", options)
    assert np.array_equal(read_labels(tmp_path / "labels.zarr").read(), whole)


def test_nothing_is_said_of_a_network_that_cannot_be_adapted(caplog):
    usual = noise_volume((16, 32, 32))
    model = _like(small_model(norm="instance"), usual)
    smooth = _smooth(usual)
    segment(smooth, model)
    assert "does not look like" in caplog.text
    assert "is measured on this volume" not in caplog.text
