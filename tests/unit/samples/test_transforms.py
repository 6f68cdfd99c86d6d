import numpy as np
import pytest
import torch
from coded_volumes import coded
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg3d.core.errors import ConfigError
from cellseg3d.samples.transforms import (
    RandRolld,
    RandSliceShiftd,
    RandSpatiald,
    RandSymmetryd,
)

FLAT, STACK, PATCH = (1, 20, 20), (5, 20, 20), (1, 8, 20, 20)
EVERY = [
    RandSymmetryd(),
    RandSymmetryd(plane="all"),
    RandSpatiald(prob=1, elastic=2, elastic_step=8),
    RandSpatiald(prob=1, elastic=2, elastic_step=8, plane="random"),
    RandSpatiald(prob=1, elastic=2, elastic_step=8, plane="all"),
    RandRolld(prob=1, plane="all"),
    RandSliceShiftd(prob=1),
]


def codes(shape):
    """Return a coded item: each image voxel its own number, the label the same."""
    rest = shape if len(shape) == 3 else shape[1:]
    image = torch.from_numpy(coded(rest)).reshape(shape)
    centre = shape[0] // 2
    label = image if len(shape) == 4 else image[centre : centre + 1]
    return {"image": image, "label": label.clone(), "case": "c"}


def centre_of(image):
    return image if image.ndim == 4 else image[image.shape[0] // 2][None]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([FLAT, STACK, PATCH, (1, 6, 7, 9), (1, 6, 9)]),
    st.sampled_from(["yx", "all", "none"]),
    st.integers(0, 2**32 - 1),
)
def test_symmetries_move_image_and_label_alike_and_lose_nothing(shape, plane, seed):
    before = codes(shape)

    after = RandSymmetryd(plane=plane).set_random_state(seed)(before)

    assert after["image"].shape == before["image"].shape
    assert torch.equal(centre_of(after["image"]), after["label"])
    assert torch.equal(after["image"].flatten().sort()[0], before["image"].flatten())
    assert after["case"] == "c"


def test_symmetries_reach_every_orientation():
    def seen(shape, plane, count):
        transform = RandSymmetryd(plane=plane)
        found = (
            transform.set_random_state(seed)(codes(shape))["image"].numpy().tobytes()
            for seed in range(count)
        )
        return len(set(found))

    assert seen((1, 3, 3), "yx", 200) == 8
    assert seen((3, 3, 3), "yx", 400) == 16  # the order of the stack as well
    assert seen((1, 3, 3, 3), "all", 1500) == 48
    assert seen((1, 3, 3, 3), "yx", 400) == 16
    assert seen((1, 3, 3, 4), "yx", 200) == 8  # flips only, the sides differ


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(EVERY),
    st.sampled_from([FLAT, STACK, PATCH]),
    st.integers(0, 2**32 - 1),
)
def test_a_label_lies_where_its_image_lies(transform, shape, seed):
    # The image holds 1 or 0 as its label does, in smooth blobs: after any movement
    # the label must be 1 where the image is above one half, but for rounding at edges.
    rest = shape if len(shape) == 3 else shape[1:]
    grid = np.indices(rest).astype(np.float64)
    waves = np.sin(grid[1] / 3.0 + 1) * np.sin(grid[2] / 4.0) + 0 * grid[0]
    image = torch.from_numpy((waves > 0).astype(np.float32)).reshape(shape)
    centre = shape[0] // 2
    label = image if len(shape) == 4 else image[centre : centre + 1]

    after = transform.set_random_state(seed)({"image": image, "label": label.clone()})

    assert set(after["label"].unique().tolist()) <= {0.0, 1.0}
    sure = (centre_of(after["image"]) - 0.5).abs() > 0.499
    assert sure.float().mean() > 0.3
    assert torch.equal(
        (centre_of(after["image"]) > 0.5)[sure], after["label"][sure] > 0
    )


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: type(t).__name__)
def test_the_seed_decides_and_the_input_stays(transform):
    before = codes(PATCH)
    kept = before["image"].clone()

    one = transform.set_random_state(7)(before)["image"]
    other = transform.set_random_state(7)(before)["image"]
    more = [transform.set_random_state(s)(before)["image"] for s in range(8, 14)]

    assert torch.equal(one, other)
    assert any(not torch.equal(one, changed) for changed in more)
    assert torch.equal(before["image"], kept)


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: type(t).__name__)
def test_what_is_not_annotated_stays_255(transform):
    label = torch.zeros(PATCH)
    label[:, :, 8:] = 255
    item = {"image": torch.rand(PATCH), "label": label}

    after = transform.set_random_state(3)(item)["label"]

    assert set(after.unique().tolist()) == {0.0, 255.0}


def test_a_rotation_by_nothing_is_the_identity():
    still = RandSpatiald(prob=1, rotate_deg=0, scale=(1, 1))
    for shape in (FLAT, STACK, PATCH, (1, 7, 9, 11)):
        for plane in ("yx", "random", "all"):
            still.plane = plane
            before = codes(shape)
            after = still.set_random_state(1)(before)
            torch.testing.assert_close(
                after["image"], before["image"], rtol=1e-4, atol=0.05
            )
            assert torch.equal(after["label"], before["label"])


def test_a_quarter_turn_is_an_exact_rotation():
    turn = RandSpatiald(prob=1, scale=(1, 1))
    before = codes(PATCH)
    for sign in (1, -1):
        turn.uniform = lambda bounds, s=sign: 0.0 if bounds[0] == 0 else 90.0 * s
        after = turn(before)
        wanted = torch.rot90(before["image"], -sign, (2, 3))
        torch.testing.assert_close(after["image"], wanted, rtol=1e-4, atol=0.5)
        assert torch.equal(after["label"], wanted)


@pytest.mark.parametrize("plane", ["yx", "all"])
def test_scaling_magnifies_about_the_middle(plane):
    grow = RandSpatiald(prob=1, rotate_deg=0, scale=(2, 2), plane=plane)
    image = torch.zeros(1, 16, 32, 32)
    image[:, :, 12:20, 12:20] = 1

    after = grow({"image": image, "label": image.clone()})

    assert float(after["label"][0, 8].sum()) == 16 * 16
    assert after["label"][0, 8, 8:24, 8:24].all()


def test_borders_are_reflected_not_filled():
    spin = RandSpatiald(prob=1, scale=(0.5, 0.6), elastic=3, plane="all")
    item = {"image": torch.full(PATCH, 0.7), "label": torch.ones(PATCH)}

    for seed in range(5):
        after = spin.set_random_state(seed)(item)
        torch.testing.assert_close(after["image"], item["image"])
        assert torch.equal(after["label"], item["label"])


def test_elastic_deformation_bends_and_has_the_size_asked_for():
    shape = (1, 64, 64)
    columns = torch.arange(64.0).expand(shape).clone()
    item = {"image": columns, "label": columns.clone()}
    bend = RandSpatiald(
        prob=1, rotate_deg=0, scale=(1, 1), elastic=2.0, elastic_step=16
    )

    moved = [bend.set_random_state(s)(item)["image"] - columns for s in range(30)]
    inner = torch.stack(moved)[:, 0, 16:48, 16:48]

    assert inner.std(dim=(1, 2)).min() > 0.1  # not one shift for all
    # Between control points a cubic blends four, so the spread is somewhat smaller.
    assert 0.8 < float(inner.std()) < 2.2


def test_a_roll_is_circular():
    before = codes(PATCH)

    after = RandRolld(prob=1, plane="all").set_random_state(1)(before)

    assert torch.equal(after["image"], after["label"])
    z, y, x = (int(v) for v in np.argwhere(after["image"][0].numpy() == 0)[0])
    assert torch.equal(after["image"].roll((-z, -y, -x), (1, 2, 3)), before["image"])
    assert (z, y, x) != (0, 0, 0)


def test_a_shifted_slice_takes_its_label_along_in_3d():
    before = codes(PATCH)
    after = RandSliceShiftd(prob=1, most=3).set_random_state(2)(before)

    assert torch.equal(after["image"], after["label"])
    same = (after["image"] == before["image"]).flatten(2).all(2)[0].tolist()
    first = same.index(False)
    assert first >= 1
    assert not any(same[first:])


def test_a_shifted_slice_of_a_stack_leaves_the_centre_and_the_label():
    before = codes(STACK)
    places = set()
    for seed in range(30):
        shift = RandSliceShiftd(prob=1, most=3).set_random_state(seed)
        after = shift(before)
        assert torch.equal(after["label"], before["label"])
        changed = (after["image"] != before["image"]).flatten(1).any(1)
        places |= set(changed.nonzero().flatten().tolist())
    assert places == {0, 1, 3, 4}
    single = codes(FLAT)
    assert RandSliceShiftd(prob=1)(single) is single


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandSymmetryd(prob=2), "expected 0 to 1"),
        (lambda: RandSymmetryd(plane="xy"), "plane is 'xy'"),
        (lambda: RandSpatiald(scale=(0, 1)), "scale is"),
        (lambda: RandSpatiald(elastic=-1), "elastic is -1"),
        (lambda: RandRolld(plane="random"), "one of yx, all"),
    ],
)
def test_impossible_settings_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
