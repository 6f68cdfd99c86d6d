import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from cellseg3d.core.errors import ConfigError
from cellseg3d.samples.augment import (
    NOISE_VALUES,
    RandBlurd,
    RandIntensityd,
    RandMissingSliced,
    RandMissingWedged,
    add_noise,
    blur_axis,
    remove_wedge,
)

PATCH = (1, 12, 20, 24)
OFF = {"brightness": 0.0, "contrast": (1.0, 1.0), "gamma": (1.0, 1.0), "noise": 0.0}


def noise_item(shape=PATCH, seed=0):
    image = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return {"image": image, "label": torch.ones(1, *shape[1:])}


EVERY = [
    RandIntensityd(prob=1),
    RandBlurd(prob=1, plane="all"),
    RandMissingSliced(prob=1),
    RandMissingWedged(prob=1),
]


@pytest.mark.parametrize("transform", EVERY, ids=lambda t: type(t).__name__)
def test_the_seed_decides_the_input_and_the_label_stay(transform):
    before = noise_item()
    kept = before["image"].clone()

    one = transform.set_random_state(5)(before)
    other = transform.set_random_state(5)(before)
    more = [transform.set_random_state(s)(before)["image"] for s in range(6, 12)]

    assert torch.equal(one["image"], other["image"])
    assert not torch.equal(one["image"], kept)
    assert any(not torch.equal(one["image"], changed) for changed in more)
    assert torch.equal(before["image"], kept)
    assert one["label"] is before["label"]


def test_brightness_is_added_within_its_bounds():
    transform = RandIntensityd(prob=1, **{**OFF, "brightness": 0.5})
    item = noise_item()
    steps = []
    for seed in range(40):
        change = transform.set_random_state(seed)(item)["image"] - item["image"]
        assert float(change.max() - change.min()) < 1e-5
        steps.append(float(change.mean()))

    assert -0.5 <= min(steps) < -0.3
    assert 0.3 < max(steps) <= 0.5


def test_contrast_stretches_about_the_mean():
    transform = RandIntensityd(prob=1, **{**OFF, "contrast": (1.5, 1.5)})
    item = noise_item()

    image = transform(item)["image"]

    torch.testing.assert_close(image.mean(), item["image"].mean(), atol=1e-5, rtol=0)
    torch.testing.assert_close(image.std(), 1.5 * item["image"].std())


def test_gamma_keeps_the_range_and_the_order():
    transform = RandIntensityd(prob=1, **{**OFF, "gamma": (2.0, 2.0)})
    image = torch.linspace(-1, 1, 5).reshape(1, 1, 5)

    changed = transform({"image": image})["image"]

    wanted = 2 * torch.tensor([0, 1 / 16, 1 / 4, 9 / 16, 1]) - 1
    torch.testing.assert_close(changed.flatten(), wanted)
    flat = torch.full((1, 2, 2), 0.3)
    assert torch.equal(transform({"image": flat})["image"], flat)


def test_noise_has_the_deviation_drawn():
    transform = RandIntensityd(prob=1, **{**OFF, "noise": 0.4})
    item = {"image": torch.zeros(1, 40, 40, 40)}
    spreads = [
        float(transform.set_random_state(seed)(item)["image"].std())
        for seed in range(20)
    ]

    assert 0 < min(spreads) < 0.15
    assert 0.25 < max(spreads) < 0.41


def test_noise_wraps_round_its_table_and_is_gaussian():
    image = torch.full((1, 300, 200), 0.25)

    plain = add_noise(image, 0.1, 0)
    wrapped = add_noise(image, 0.1, NOISE_VALUES - 100)
    flipped = add_noise(image, -0.1, 0)

    torch.testing.assert_close(wrapped.flatten()[100:], plain.flatten()[:-100])
    torch.testing.assert_close(plain + flipped, 2 * image)
    values = (plain - image).flatten().double() / 0.1
    # 60 000 values: 4 standard errors of mean, variance and kurtosis.
    assert abs(float(values.mean())) < 0.017
    assert float(values.var()) == pytest.approx(1, abs=0.025)
    assert float((values**4).mean()) == pytest.approx(3, abs=0.16)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_nears_a_gaussian(sigma):
    image = torch.zeros(1, 41)
    image[0, 20] = 1

    blurred = blur_axis(image, 1, sigma)[0].double()

    place = torch.arange(41) - 20
    assert float((blurred * place**2).sum()) == pytest.approx(sigma**2, rel=1e-5)
    gauss = ndimage.gaussian_filter1d(image[0].double().numpy(), sigma, truncate=8)
    # Few passes of three weights are no Gaussian yet: 5 % of the peak at most.
    assert np.abs(blurred.numpy() - gauss).max() < 0.06


def test_blur_keeps_a_constant_and_the_sum():
    flat = torch.full((3, 9), 0.4)
    torch.testing.assert_close(blur_axis(flat, 1, 1.0), flat)
    item = noise_item()
    blurred = blur_axis(item["image"], 2, 1.0)
    torch.testing.assert_close(blurred.sum(), item["image"].sum(), rtol=1e-3, atol=0.01)


def test_blur_in_plane_leaves_other_slices_alone():
    image = torch.zeros(1, 5, 9, 9)
    image[0, 2, 4, 4] = 1

    blurred = RandBlurd(prob=1, sigma=(1, 1))({"image": image})["image"]

    assert float(blurred[0, [0, 1, 3, 4]].abs().max()) == 0
    assert 0.05 < float(blurred[0, 2, 4, 4]) < 0.5


def test_a_missing_slice_is_one_and_never_the_centre_of_a_stack():
    stacks, patches = set(), set()
    for seed in range(60):
        transform = RandMissingSliced(prob=1).set_random_state(seed)
        for shape, seen, axis in (((5, 6, 7), stacks, 0), (PATCH, patches, 1)):
            item = noise_item(shape)
            changed = transform(item)["image"]
            flat = changed.std(dim=tuple(d for d in range(changed.ndim) if d != axis))
            blank = (flat == 0).nonzero().flatten().tolist()
            assert len(blank) == 1
            lost = changed.select(axis, blank[0])
            torch.testing.assert_close(
                lost.mean(), item["image"].mean(), atol=1e-5, rtol=0
            )
            seen.add(blank[0])
    assert stacks == {0, 1, 3, 4}
    assert patches == set(range(12))
    single = noise_item((1, 6, 7))
    assert RandMissingSliced(prob=1)(single) is single


def wave(shape, cycles_z, cycles_x):
    z, _, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    phase = cycles_z * z / shape[0] + cycles_x * x / shape[2]
    full = np.cos(2 * math.pi * phase) + np.zeros(shape)
    return torch.from_numpy(full.astype(np.float32))[None]


def test_a_wedge_takes_steep_waves_and_leaves_shallow_ones():
    shape = (32, 4, 32)
    steep, shallow = wave(shape, 6, 2), wave(shape, 2, 6)

    cut = remove_wedge(steep + shallow + 0.7, 60.0, (1, 3))

    # |kz / kx| = 3 lies beyond tan 60 = 1.73; 1/3 lies within. The mean stays.
    torch.testing.assert_close(cut, shallow + 0.7, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        remove_wedge(steep, 75.0, (1, 3)), steep, atol=1e-4, rtol=0
    )
    stretched = remove_wedge(steep, 60.0, (1, 3), z_over_x=2.0)
    torch.testing.assert_close(stretched, steep, atol=1e-4, rtol=0)


def test_slices_across_y_lose_their_wedge_and_others_stay():
    transform = RandMissingWedged(prob=1, tilt_deg=(60, 60))
    image = wave((32, 3, 32), 6, 2)[0].movedim(1, 0).contiguous()

    across_y = {"image": image, "axis": torch.tensor(1)}
    across_z = {"image": image, "axis": torch.tensor(0)}

    assert float(transform(across_y)["image"].abs().max()) < 1e-4
    assert transform(across_z) is across_z


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandIntensityd(gamma=(0, 1)), "gamma is"),
        (lambda: RandIntensityd(noise=-1), "noise is -1"),
        (lambda: RandBlurd(sigma=(2, 1)), "sigma is"),
        (lambda: RandBlurd(plane="z"), "plane is 'z'"),
        (lambda: RandMissingWedged(tilt_deg=(50, 95)), "tilt_deg is"),
    ],
)
def test_impossible_settings_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
