import numpy as np
import pytest
import torch
from coded_volumes import CODE, coded, decoded
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import RandGaussianNoised
from torch.utils.data import DataLoader

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.samples.crops import crop_image, crop_label, crop_start
from cellseg3d.samples.loaders import SampleDataset, WholeVolumeDataset
from cellseg3d.samples.transforms import RandSymmetryd

SHAPE = (7, 30, 40)
SPECS = {
    "2D": {"spatial_dims": 2, "patch_shape": (16, 24)},
    "2.5D": {"spatial_dims": 2, "patch_shape": (16, 24), "context": 2},
    "3D": {"spatial_dims": 3, "patch_shape": (4, 16, 24)},
}


def full_label(shape=SHAPE):
    return (coded(shape) % 3).astype(np.uint8)


@pytest.fixture
def case(make_case):
    return make_case(coded(SHAPE), full_label())


def same(one, two):
    assert one.keys() == two.keys()
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, two[key]), key
        else:
            assert value == two[key]


@pytest.mark.parametrize("kind", SPECS)
def test_image_and_label_are_cut_from_one_place(case, kind):
    dataset = SampleDataset([case], SPECS[kind], 20)

    for item in dataset:
        image, label = decoded(item["image"]), item["label"].numpy()
        z, y, x = item["position"].tolist()
        centre = image[image.shape[0] // 2] if kind == "2.5D" else image[0]
        assert centre.flat[0] == 10000 * z + 100 * y + x
        np.testing.assert_array_equal(label[0], centre % 3)
        assert item["image"].dtype == item["label"].dtype == torch.float32
        assert label.shape == (1, *SPECS[kind]["patch_shape"])


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_a_stack_holds_neighbours_and_repeats_the_first_and_last(case, axis):
    index = "zyx".index(axis)
    length = SHAPE[index]
    patch = [n for i, n in enumerate(SHAPE) if i != index]
    spec = InputSpec(2, tuple(patch), context=2, axis=axis)
    whole = np.moveaxis(coded(SHAPE), index, 0).astype(int)
    scaling = (case.scale, case.offset, case.factor)

    for middle in (0, 1, length // 2, length - 1):
        centre = [n // 2 for n in SHAPE]
        centre[index] = middle
        stack = decoded(crop_image(case.image, centre, spec, axis, scaling))

        wanted = [min(max(0, middle + step), length - 1) for step in range(-2, 3)]
        np.testing.assert_array_equal(stack, whole[wanted])
        label = crop_label(case.label, centre, spec, axis)
        np.testing.assert_array_equal(label[0], whole[middle] % 3)


def test_every_slice_is_a_target_also_the_first_and_last(case):
    for axis, length in zip("zyx", SHAPE, strict=True):
        spec = {"spatial_dims": 2, "patch_shape": (4, 4), "context": 1, "axis": axis}
        items = SampleDataset([case], spec, 60 * length, foreground=0.0)
        seen = {int(item["position"]["zyx".index(axis)]) for item in items}

        assert seen == set(range(length))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.data(),
)
def test_a_patch_past_the_borders_is_reflected_and_not_annotated(shape, patch, data):
    image = coded(shape)
    label = (image % 3).astype(np.uint8)
    centre = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    spec = InputSpec(3, patch)

    cut = decoded(crop_image(image, centre, spec, "z", (CODE, 0.0, 1 / 3e5)))[0]
    marks = crop_label(label, centre, spec, "z")[0]

    start = crop_start(shape, centre, patch)
    assert all(a <= c < a + n for a, c, n in zip(start, centre, patch, strict=True))
    grow = [(max(0, n), max(0, n)) for n in patch]
    padded = np.pad(image, grow, mode="reflect").astype(int)
    known = np.pad(label, grow, constant_values=255)
    where = tuple(
        slice(a + g[0], a + g[0] + n)
        for a, g, n in zip(start, grow, patch, strict=True)
    )
    np.testing.assert_array_equal(cut, padded[where])
    np.testing.assert_array_equal(marks, known[where])


@pytest.mark.parametrize("kind", SPECS)
def test_sparse_annotation_is_all_that_is_drawn(make_case, kind):
    label = np.full(SHAPE, 255, np.uint8)
    for z in (0, 3, 6):
        label[z] = full_label()[z]
    dataset = SampleDataset([make_case(coded(SHAPE), label)], SPECS[kind], 60)

    slices = set()
    for item in dataset:
        marks = item["label"][0]
        assert (marks != 255).any()
        if kind != "3D":
            assert not (marks == 255).any()
            slices.add(int(item["position"][0]))
        else:
            start = int(item["position"][0])
            rows = (marks != 255).flatten(1).any(1).tolist()
            assert rows == [start + i in (0, 3, 6) for i in range(4)]
    assert kind == "3D" or slices == {0, 3, 6}


def test_a_network_trains_on_three_labelled_slices(make_case):
    label = np.full(SHAPE, 255, np.uint8)
    image = np.random.default_rng(0).normal(0, 1e5, SHAPE).astype(np.float32)
    for z in (0, 3, 6):
        label[z] = image[z] > 0
    dataset = SampleDataset([make_case(image, label)], SPECS["2D"], 64)
    net = torch.nn.Conv2d(1, 2, 1)
    for part in net.parameters():
        torch.nn.init.zeros_(part)
    optimiser = torch.optim.Adam(net.parameters(), lr=1.0)

    losses = []
    for start in range(0, 64, 8):
        batch = dataset.batch(range(start, start + 8))
        loss = torch.nn.functional.cross_entropy(
            net(batch["image"]), batch["label"][:, 0].long(), ignore_index=255
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    assert losses[-1] < 0.6 * losses[0]


def noisy(case, **options):
    transform = Compose(
        [RandSymmetryd(), RandGaussianNoised(keys=["image"], prob=0.9, std=0.1)]
    )
    return SampleDataset([case], SPECS["2.5D"], 12, transform, seed=3, **options)


def test_a_sample_does_not_depend_on_what_was_drawn_before(case):
    straight = list(noisy(case))
    other = noisy(case)
    backwards = {index: other[index] for index in reversed(range(12))}

    for index, item in enumerate(straight):
        same(item, backwards[index])


def test_epochs_and_seeds_draw_other_samples(case):
    dataset = noisy(case)
    first = dataset[0]["image"]
    dataset.set_epoch(1)
    assert dataset.epoch == 1
    assert not torch.equal(dataset[0]["image"], first)
    dataset.set_epoch(0)
    assert torch.equal(dataset[0]["image"], first)


def test_workers_draw_what_one_process_draws_in_every_epoch(case):
    dataset = noisy(case)
    loaders = [
        DataLoader(dataset, batch_size=4, num_workers=n, persistent_workers=n > 0)
        for n in (0, 1, 2)
    ]

    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        alone, one, two = (list(loader) for loader in loaders)
        assert len(alone) == 3
        for batch, other, another in zip(alone, one, two, strict=True):
            same(batch, other)
            same(batch, another)


def test_processes_share_an_epoch_without_repeating_a_sample(case):
    whole = list(noisy(case))
    shares = [list(noisy(case, rank=rank, world_size=3)) for rank in range(3)]

    for index, item in enumerate(whole):
        same(item, shares[index % 3][index // 3])


def test_a_batch_is_its_items_stacked(case):
    dataset = noisy(case)

    batch = dataset.batch([5, 0, 7])

    for row, index in enumerate((5, 0, 7)):
        item = dataset[index]
        assert torch.equal(batch["image"][row], item["image"])
        assert torch.equal(batch["label"][row], item["label"])
    assert batch["case"] == ["case"] * 3


def test_stacks_are_cut_across_every_axis_asked_for(case):
    spec = {"spatial_dims": 2, "patch_shape": (8, 8), "context": 1}
    dataset = SampleDataset([case], spec, 60, axes=("z", "y", "x"))

    counts = np.bincount([int(item["axis"]) for item in dataset], minlength=3)

    assert counts.min() >= 10
    assert counts.sum() == 60


def test_partial_annotation_travels_with_the_sample(make_case):
    cases = [
        make_case(coded(SHAPE), full_label(), "some", annotated=(True, False, True)),
        make_case(coded(SHAPE), full_label(), "all"),
    ]

    for item in SampleDataset(cases, SPECS["2D"], 20):
        wanted = [True, item["case"] == "all", True]
        assert item["annotated"].tolist() == wanted


def test_whole_volumes_are_scaled_as_samples_are(case):
    (item,) = WholeVolumeDataset([case])

    assert item["image"].shape == item["label"].shape == (1, *SHAPE)
    np.testing.assert_array_equal(decoded(item["image"][0]), coded(SHAPE))
    np.testing.assert_array_equal(item["label"][0], full_label())
    sample = SampleDataset([case], SPECS["3D"], 1)[0]
    z, y, x = sample["position"].tolist()
    inside = item["image"][:, z : z + 4, y : y + 16, x : x + 24]
    assert torch.equal(sample["image"], inside)


def test_each_process_validates_a_share_and_at_least_one_volume(make_case):
    cases = [make_case(coded((2, 3, 4)), full_label((2, 3, 4)), n) for n in "abc"]

    def names(rank, world):
        items = WholeVolumeDataset(cases, rank=rank, world_size=world)
        return [item["case"] for item in items]

    assert [names(0, 2), names(1, 2)] == [["a", "c"], ["b"]]
    assert [names(rank, 5) for rank in range(5)] == [["a"], ["b"], ["c"], ["a"], ["b"]]


def test_uint8_volumes_stay_uint8_until_the_crop(make_case):
    image = np.arange(7 * 30 * 40, dtype=np.uint32).reshape(SHAPE).astype(np.uint8)
    case = make_case(image, full_label())
    dataset = SampleDataset([case], SPECS["3D"], 1)

    item = dataset[0]

    assert dataset.cases[0].image is image
    z, y, x = item["position"].tolist()
    raw = image[z : z + 4, y : y + 16, x : x + 24]
    np.testing.assert_array_equal(decoded(item["image"][0]), raw)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"samples": 1, "world_size": 2, "rank": 0}, ConfigError, "at least 2"),
        ({"rank": 2, "world_size": 2}, ConfigError, "expected 0 to 1"),
        ({"spec": {"spatial_dims": 4}}, ConfigError, "spatial_dims is 4"),
    ],
)
def test_impossible_settings_are_refused(case, options, error, said):
    with pytest.raises(error, match=said):
        SampleDataset([case], **{"spec": SPECS["2D"], **options})


def test_a_case_without_a_label_cannot_train(make_case):
    with pytest.raises(LabelError, match=r"^bare: has no label"):
        SampleDataset([make_case(coded(SHAPE), None, "bare")], SPECS["2D"])
