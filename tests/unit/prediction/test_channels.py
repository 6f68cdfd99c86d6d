"""Networks of several channels predict as one pass over the whole volume would."""

import numpy as np
import pytest
import torch
from small_models import noise_volume, small_model, whole_pass
from two_stains import two_stains, write_stains

from cellseg3d.core.errors import AxisError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume
from cellseg3d.prediction.inferer import VolumeInferer
from cellseg3d.prediction.opening import open_for
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment, segment_to_file

STAINS = ("DAPI", "actin")
EXACT = SegmentOptions(precision="float32")


def stained_noise(shape=(9, 30, 21), seed=0, names=STAINS):
    """Two channels of noise on scales of their own."""
    first = noise_volume(shape, seed).read()
    second = 7 * noise_volume(shape, seed + 1).read() + 1000
    array = np.stack([first, second])
    return Volume(array, Spacing(0.3, 0.1, 0.1), channel_names=names)


@pytest.mark.parametrize("acceleration", ["off", "auto"])
@pytest.mark.parametrize(("dims", "context"), [(3, 0), (2, 0), (2, 2)])
def test_labels_of_two_channels_are_those_of_one_pass(dims, context, acceleration):
    model = small_model(dims, context, channels=STAINS, core=16, halo=32)
    volume = stained_noise()
    options = SegmentOptions(precision="float32", acceleration=acceleration)

    found = segment(volume, model, options).labels

    expected = whole_pass(model, volume).argmax(0)
    np.testing.assert_array_equal(found.array, expected)
    assert len(np.unique(expected)) > 1
    assert found.array.shape == volume.shape


@pytest.mark.parametrize("suffix", [".ome.zarr", ".tif"])
def test_a_file_in_parts_is_segmented_as_the_array(tmp_path, suffix):
    model = small_model(3, channels=STAINS, core=16, halo=32)
    image, _ = two_stains(3, shape=(20, 40, 36))
    place = write_stains(tmp_path / "cell.ome.tif", image)
    out = tmp_path / f"labels{suffix}"

    segment_to_file(open_for(place, [model]), model, out, EXACT)

    spacing = open_volume(place, channels="all").spacing
    expected = segment(Volume(image, spacing), model, EXACT).labels
    np.testing.assert_array_equal(open_volume(out).read(), expected.array)


def test_channels_in_another_order_are_found_by_name(tmp_path):
    model = small_model(3, channels=STAINS)
    image, _ = two_stains(3)
    right = write_stains(tmp_path / "right.ome.tif", image)
    turned = write_stains(tmp_path / "turned.ome.tif", image[::-1], ("actin", "dapi"))
    more = write_stains(
        tmp_path / "more.ome.tif",
        np.stack([image[1], image[0] + 9, image[0]]),
        ("actin", "tubulin", "DAPI"),
    )

    labels = [
        segment(open_for(place, [model]), model, EXACT).labels.read()
        for place in (right, turned, more)
    ]

    np.testing.assert_array_equal(labels[1], labels[0])
    np.testing.assert_array_equal(labels[2], labels[0])


def test_numbers_of_channels_are_the_users_own_order(tmp_path):
    model = small_model(3, channels=STAINS)
    image, _ = two_stains(3)
    place = write_stains(tmp_path / "cell.ome.tif", image)

    volume = open_for(place, [model], channels=("1", "0"))
    found = segment(volume, model, EXACT).labels.read()

    expected = whole_pass(model, Volume(image[::-1])).argmax(0)
    np.testing.assert_array_equal(found, expected)


def test_a_network_of_one_named_channel_finds_it_among_others(tmp_path):
    model = small_model(3, channels=("actin",))
    image, _ = two_stains(3)
    place = write_stains(tmp_path / "cell.ome.tif", image)

    found = segment(open_for(place, [model]), model, EXACT).labels.read()

    expected = whole_pass(model, Volume(image[1])).argmax(0)
    np.testing.assert_array_equal(found, expected)


def test_wrong_channels_are_refused_in_words(tmp_path):
    model = small_model(3, channels=STAINS)
    image, _ = two_stains(3)
    three = write_stains(
        tmp_path / "three.ome.tif", image[[0, 1, 0]], ("DAPI", "myosin", "tubulin")
    )

    with pytest.raises(AxisError, match=r"has 1 channel, but small was trained on 2"):
        segment(Volume(image[0]), model, EXACT)
    with pytest.raises(
        AxisError,
        match=r"3 channels \(DAPI, myosin, tubulin\).*\(DAPI, actin\).*`channels`",
    ):
        segment(open_for(three, [model]), model, EXACT)


def test_other_names_in_equal_number_are_taken_in_order_with_a_warning(caplog):
    model = small_model(3, channels=STAINS)

    segment(stained_noise(names=("Hoechst", "phalloidin")), model, EXACT)

    assert "Hoechst, phalloidin, so they are taken in this order" in caplog.text


@pytest.mark.parametrize(("dims", "context"), [(3, 0), (2, 2)])
def test_monais_inferer_gives_the_labels_of_segment(dims, context):
    model = small_model(dims, context, channels=STAINS, core=16, halo=32)
    volume = stained_noise()
    scaled = model.intensity.apply(volume.read(), *model.intensity.measure(volume))
    inferer = VolumeInferer(
        model.spec, model.window, "float32", spacing_um=volume.spacing.zyx
    )

    logits = inferer(torch.from_numpy(scaled)[None], model.network)

    expected = segment(volume, model, EXACT).labels.array
    np.testing.assert_array_equal(logits[0].argmax(0).numpy(), expected)


def test_each_channel_is_scaled_by_itself():
    model = small_model(2, channels=STAINS)
    volume = stained_noise()

    brighter = volume.with_array(volume.read() * np.float32(3) + np.float32(50))

    np.testing.assert_array_equal(
        segment(brighter, model, EXACT).labels.array,
        segment(volume, model, EXACT).labels.array,
    )
