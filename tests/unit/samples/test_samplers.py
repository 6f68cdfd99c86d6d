import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.samples import samplers
from cellseg3d.samples.samplers import SiteSampler, class_runs, sample_random

LABELS = arrays(
    np.uint8,
    st.tuples(*[st.integers(1, 6)] * 3),
    elements=st.sampled_from([0, 1, 2, 255]),
)


@given(LABELS, st.sampled_from([1, 1 << 24]))
def test_runs_hold_every_annotated_voxel_of_a_class_once(label, slab):
    before, samplers._SLAB_VOXELS = samplers._SLAB_VOXELS, slab
    try:
        runs = class_runs(label)
    finally:
        samplers._SLAB_VOXELS = before

    assert sorted(runs) == [v for v in np.unique(label).tolist() if v != 255]
    for value, found in runs.items():
        voxels = [found.pick(number) for number in range(found.count)]
        assert voxels == np.flatnonzero(label == value).tolist()


@given(LABELS, st.integers(0, 99))
def test_a_site_is_an_annotated_voxel(label, seed):
    if (label == 255).all():
        return
    sampler = SiteSampler([label, label[::-1].copy()], foreground=0.5)

    for index in range(5):
        volume, site = sampler.draw(sample_random(seed, 0, index))
        assert [label, label[::-1]][volume][site] != 255


def draws(sampler, labels, count=4000):
    found = [sampler.draw(sample_random(7, 0, index)) for index in range(count)]
    values = np.array([labels[volume][site] for volume, site in found])
    return found, np.bincount(values, minlength=4) / count


def rare_labels():
    """Two volumes: class 1 is 1 % of the voxels, class 2 is ten times rarer."""
    label = np.zeros((10, 20, 50), np.uint8)
    label[4, :10, :10] = 1
    label[7, 5, :10] = 2
    return [label, np.zeros((2, 3, 4), np.uint8)]


def test_foreground_classes_are_drawn_alike_however_rare():
    labels = rare_labels()

    _, share = draws(SiteSampler(labels, foreground=0.6), labels)

    # 4 standard errors of a share of 0.3 in 4000 draws are 0.029.
    np.testing.assert_allclose(share, [0.4, 0.3, 0.3, 0], atol=0.035)


@pytest.mark.parametrize("weights", [{1: 3.0, 2: 1.0}, {"1": 3.0, "2": 1.0}])
def test_class_weights_set_the_share_of_each_class(weights):
    labels = rare_labels()

    _, share = draws(SiteSampler(labels, 1.0, weights), labels)

    np.testing.assert_allclose(share, [0, 0.75, 0.25, 0], atol=0.03)


def test_without_balance_sites_are_spread_evenly_over_annotated_voxels():
    label = np.full((8, 8, 8), 255, np.uint8)
    label[2] = 0
    label[5, :4] = 1

    found, share = draws(SiteSampler([label], foreground=0.0), [label])

    np.testing.assert_allclose(share[:2], [2 / 3, 1 / 3], atol=0.035)
    cells = np.array([site for _, site in found])
    assert set(cells[:, 0]) == {2, 5}
    counts = np.bincount(cells[:, 1] * 8 + cells[:, 2], minlength=64)
    # 64 to 32 cells share 4000 draws by 2 : 1; the spread is that of a Poisson count.
    assert counts[:32].min() > 45
    assert counts[32:].max() < counts[:32].mean()


def test_draws_follow_seed_epoch_and_index_alone():
    def first(seed, epoch, index):
        return sample_random(seed, epoch, index).random(3).tolist()

    keys = [(s, e, i) for s in (0, 1, -1) for e in (0, 1) for i in (0, 1, 2**40)]
    values = {key: first(*key) for key in keys}

    assert len({tuple(v) for v in values.values()}) == len(keys)
    assert all(first(*key) == value for key, value in values.items())


def test_counts_tell_how_often_each_class_occurs():
    assert SiteSampler(rare_labels()).counts == {0: 9890 + 24, 1: 100, 2: 10}


def test_nothing_annotated_is_refused():
    with pytest.raises(LabelError, match="no voxel of the 1 labels is annotated"):
        SiteSampler([np.full((2, 2, 2), 255, np.uint8)])


@pytest.mark.parametrize(
    ("values", "said"),
    [((1.5,), "probability"), ((0.5, {1: -1.0}), "class_weights is .*expected 0")],
)
def test_impossible_balance_is_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        SiteSampler(rare_labels(), *values)
