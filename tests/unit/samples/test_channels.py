"""Samples of several channels: cut, augmented and drawn."""

import numpy as np
import pytest
import torch
from coded_volumes import CODE, coded

from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.datasets.volumes import LoadedCase
from cellseg3d.samples.augment import (
    RandBlurd,
    RandIntensityd,
    RandInvertd,
    RandMissingSliced,
    RandShadingd,
)
from cellseg3d.samples.crops import crop_image
from cellseg3d.samples.loaders import SampleDataset, WholeVolumeDataset
from cellseg3d.samples.pictures import preview_picture
from cellseg3d.samples.transforms import (
    RandRolld,
    RandSliceShiftd,
    RandSpatiald,
    RandSymmetryd,
)

SHAPE = (7, 30, 40)
IMAGE = np.stack([coded(SHAPE), coded(SHAPE) + 5000])
SPECS = {
    "2D": {"spatial_dims": 2, "patch_shape": (16, 16), "image_channels": 2},
    "2.5D": {
        "spatial_dims": 2,
        "patch_shape": (16, 16),
        "context": 2,
        "image_channels": 2,
    },
    "3D": {"spatial_dims": 3, "patch_shape": (4, 16, 16), "image_channels": 2},
}


@pytest.fixture
def case():
    label = (coded(SHAPE) % 3).astype(np.uint8)
    amounts = (0.0, 5000.0), (1 / 3e5, 2 / 3e5)
    return LoadedCase("case", IMAGE, label, CODE, *amounts, None, "case")


@pytest.mark.parametrize("kind", SPECS)
def test_a_sample_has_the_slices_of_each_channel_in_turn(case, kind):
    dataset = SampleDataset([case], SPECS[kind], 4, seed=1)

    item = dataset[0]

    first, second = item["image"].chunk(2)
    assert int(item["channels"]) == 2
    # The second channel is the first plus 5000, which its offset takes away.
    torch.testing.assert_close(second, 2 * first)
    one = LoadedCase("case", IMAGE[0], case.label, CODE, 0.0, 1 / 3e5, None, "case")
    alone = SampleDataset([one], {**SPECS[kind], "image_channels": 1}, 4, seed=1)[0]
    assert torch.equal(first, alone["image"])
    assert "channels" not in alone


def test_a_stack_of_channels_keeps_the_order_of_the_slices(case):
    spec = SampleDataset([case], SPECS["2.5D"], 4).spec
    plain = IntensityScale("range", -1, 1, clip=False)
    stack = crop_image(IMAGE, (3, 10, 10), spec, "z", (plain, (0.0, 0.0), (1.0, 1.0)))

    expected = [
        IMAGE[channel, z, 2:18, 2:18] for channel in (0, 1) for z in range(1, 6)
    ]
    np.testing.assert_array_equal(stack, np.float32(expected))


def test_whole_volumes_have_all_channels(case):
    item = WholeVolumeDataset([case])[0]

    assert item["image"].shape == (2, *SHAPE)
    torch.testing.assert_close(item["image"][1], 2 * item["image"][0])


def test_a_network_of_one_channel_refuses_images_of_two(case):
    with pytest.raises(ConfigError, match=r"has 2 channels, but the network takes 1"):
        SampleDataset([case], {**SPECS["3D"], "image_channels": 1}, 4)


@pytest.mark.parametrize("kind", ["2.5D", "3D"])
@pytest.mark.parametrize(
    "transform",
    [
        RandSymmetryd(),
        RandSymmetryd(plane="all"),
        RandSpatiald(prob=1.0, elastic=3.0),
        RandSpatiald(prob=1.0, plane="random"),
        RandSpatiald(prob=1.0, plane="all"),
        RandRolld(prob=1.0),
        RandSliceShiftd(prob=1.0),
        RandMissingSliced(prob=1.0),
    ],
    ids=lambda each: f"{type(each).__name__} {getattr(each, 'plane', '')}",
)
def test_all_channels_move_in_the_same_way(case, kind, transform):
    if kind == "2.5D" and getattr(transform, "plane", "yx") != "yx":
        pytest.skip("a slice has one plane")
    dataset = SampleDataset([case], SPECS[kind], 8, transform, seed=1)
    plain = SampleDataset([case], SPECS[kind], 8, seed=1)

    for index in range(8):
        first, second = dataset[index]["image"].chunk(2)
        torch.testing.assert_close(second, 2 * first, atol=1e-5, rtol=1e-5)
    changed = [
        not torch.equal(dataset[n]["image"], plain[n]["image"]) for n in range(8)
    ]
    assert any(changed)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize(
    "transform",
    [
        RandIntensityd(prob=0.15),
        RandInvertd(prob=0.5),
        RandShadingd(prob=0.7),
        RandBlurd(prob=0.7),
    ],
    ids=lambda each: type(each).__name__,
)
def test_intensities_change_in_each_channel_by_its_own_draw(case, kind, transform):
    dataset = SampleDataset([case], SPECS[kind], 16, transform, seed=1)
    plain = SampleDataset([case], SPECS[kind], 16, seed=1)

    kinds = set()
    for index in range(16):
        changed, before = dataset[index]["image"], plain[index]["image"]
        assert changed.shape == before.shape
        pairs = zip(changed.chunk(2), before.chunk(2), strict=True)
        kinds.add(tuple(not torch.equal(now, was) for now, was in pairs))
    # Some samples change in one channel alone, in the other alone, and in both.
    assert kinds >= {(True, False), (False, True), (True, True)}


def test_a_preview_shows_channels_as_colours(case):
    dataset = SampleDataset([case], SPECS["3D"], 2, seed=1)

    picture = np.asarray(preview_picture(dataset, count=1))

    shown = picture[60:120, 20:80].reshape(-1, 3).astype(int)
    assert (shown[:, 2] == 0).any()
    assert (shown[:, 0] != shown[:, 1]).any()
