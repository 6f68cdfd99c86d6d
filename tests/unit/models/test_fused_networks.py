"""Several networks as one: the same answer in one pass, in windows, and exported."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cellseg3d.bundle.model_facts import member_for
from cellseg3d.core.errors import ConfigError
from cellseg3d.models.fused_networks import EverySourceLoss, FusedNetworks
from cellseg3d.prediction.inferer import VolumeInferer

FACTS = {"classes": ["background", "cell", "nucleus"]}
FLAT = {"spatial_dims": 2, "patch_shape": [16, 16], "context": 1}
DEEP = {"spatial_dims": 3, "patch_shape": [16, 16, 16]}
WEIGHTS = {"z": [1, 2, 1], "y": [0, 0, 0], "x": [0.1, 0.1, 0.1]}


def fused(flat=None, deep=None):
    """A 2.5D network on three axes and a 3D one, with statistics worth the name."""
    torch.manual_seed(0)
    windows = {"axes": "zyx", "fusion": flat}, {"fusion": deep}
    members = {
        name: member_for(
            "unet", spec, FACTS, {"halo": 32, "core": 16, **window}, channels=[4, 8]
        )
        for name, spec, window in zip("ab", (FLAT, DEEP), windows, strict=True)
    }
    network = FusedNetworks(members)
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def volume(shape=(18, 23, 20)):
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("flat", "deep"), [(None, None), (WEIGHTS, {"3d": [3, 1, 1]})])
def test_windows_of_each_member_give_what_one_pass_gives(flat, deep):
    network, image = fused(flat, deep), volume()

    windowed = VolumeInferer(DEEP, precision="float32")(image, network)

    with torch.no_grad():
        expected = network(image)
    torch.testing.assert_close(windowed, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(expected.exp().sum(1), torch.ones(1, *image.shape[2:]))


def test_weights_say_how_much_each_source_counts():
    image = volume()
    alone = fused({"z": [0] * 3, "y": [0] * 3, "x": [0] * 3}, {"3d": [1, 1, 1]})

    with torch.no_grad():
        expected = alone.members["b"].network(image).softmax(1)
        found = alone(image).exp()
        equal = fused()(image).exp()

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert float((equal - expected).abs().max()) > 0.01


def test_axes_turn_with_the_volume():
    network, image = fused(), volume((16, 16, 16))
    flat = network.members["a"]

    with torch.no_grad():
        across_z, across_y, _ = flat(image)
        turned = flat(image.transpose(2, 3))

    torch.testing.assert_close(turned[1].transpose(2, 3), across_z)
    assert float((across_z - across_y).abs().max()) > 0.01


def test_torchscript_gives_the_same_for_any_size():
    network = fused(WEIGHTS, {"3d": [1, 1, 1]})
    script = torch.jit.script(network)

    with torch.no_grad():
        for shape in ((16, 16, 16), (5, 21, 18)):
            image = volume(shape)
            torch.testing.assert_close(script(image), network(image))


def test_in_training_every_source_answers_for_itself():
    network, image = fused().train(), volume((16, 16, 16))
    label = torch.from_numpy(np.random.default_rng(0).integers(0, 3, image.shape))
    loss = EverySourceLoss(EachVoxel())

    logits = network(image)

    one_by_one = [EachVoxel()(part[None], label) for part in logits]
    assert logits.shape == (4, 3, 16, 16, 16)
    torch.testing.assert_close(loss(logits, label), torch.stack(one_by_one).mean())


class EachVoxel(torch.nn.Module):
    """Cross entropy as losses of `models.losses` are called."""

    def forward(self, logits, label, annotated=None):
        return functional.cross_entropy(logits, label[:, 0])


def test_members_that_do_not_fit_are_refused():
    other = {"classes": ["background", "cell"]}
    one = member_for("unet", DEEP, FACTS, channels=[4, 8])
    two = member_for("unet", DEEP, other, channels=[4, 8])

    with pytest.raises(ConfigError, match="expected the same of all"):
        FusedNetworks({"one": one, "two": two})
    with pytest.raises(ConfigError, match="one a class, for every source"):
        fused(WEIGHTS, None)
    with pytest.raises(ConfigError, match="at least one"):
        FusedNetworks({})
