import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from cellseg3d.models.edge_losses import BoundaryLoss, EdgeWeightedCELoss
from cellseg3d.models.edges import (
    edge_weights,
    face_distance,
    gap_distance,
    ridge,
    signed_distance,
)
from cellseg3d.models.losses import CrossEntropyLoss

ROW = np.array([[0, 0, 0, 1, 1, 1]])
LOSSES = [
    EdgeWeightedCELoss(sigma=1.5, class_weights=[1, 2, 3]),
    EdgeWeightedCELoss(gaps=True, sigma=2),
    BoundaryLoss(),
]


def two_discs():
    y, x = np.mgrid[:24, :30]
    label = ((y - 12) ** 2 + (x - 8) ** 2 < 30).astype(np.uint8)
    label[(y - 12) ** 2 + (x - 21) ** 2 < 30] = 2
    return label


def test_distances_in_a_row_by_hand():
    objects = np.array([[1, 0, 0, 0, 2]])

    np.testing.assert_allclose(face_distance(ROW), [[2.5, 1.5, 0.5, 0.5, 1.5, 2.5]])
    np.testing.assert_allclose(
        signed_distance(ROW, 1), [[2.5, 1.5, 0.5, -0.5, -1.5, -2.5]]
    )
    np.testing.assert_allclose(gap_distance(objects, 9), [[4, 4, 4, 4, 4]])
    np.testing.assert_allclose(
        gap_distance(objects, 2), [[np.inf] * 2 + [4] + [np.inf] * 2]
    )
    np.testing.assert_allclose(gap_distance(objects, 9, (1, 0.5)), [[2, 2, 2, 2, 2]])


def test_unannotated_voxels_make_no_boundary():
    row = np.array([[255, 0, 0, 1, 1, 255]])

    np.testing.assert_allclose(
        face_distance(row), [[np.inf, 1.5, 0.5, 0.5, 1.5, np.inf]]
    )
    np.testing.assert_allclose(signed_distance(row, 1), [[0, 1.5, 0.5, -0.5, -1.5, 0]])
    assert not signed_distance(np.array([[255, 1, 1]]), 1).any()


def test_gap_distance_equals_brute_force_on_every_voxel():
    objects = two_discs()
    objects[0:3, 0:4] = 3
    everywhere = np.argwhere(objects >= 0)
    each = [
        cKDTree(np.argwhere(objects == number)).query(everywhere)[0]
        for number in (1, 2, 3)
    ]
    expected = np.sort(each, axis=0)[:2].sum(0).reshape(objects.shape)

    np.testing.assert_allclose(gap_distance(objects, 99), expected, rtol=1e-6)


def test_weights_by_hand():
    expected = 1 + 10 * np.exp(-(np.array([2.5, 1.5, 0.5]) ** 2) / 8)

    weights = edge_weights(ROW, sigma=2)

    np.testing.assert_allclose(weights[0, :3], expected, rtol=1e-6)
    assert (edge_weights(np.zeros((4, 4), int)) == 1).all()


def test_gap_weights_are_highest_between_two_cells_that_nearly_touch():
    weights = edge_weights(two_discs(), gaps=True, sigma=3)

    assert weights.max() == weights[12, 14]
    assert weights[12, 14] > 4
    assert weights[0, 0] == pytest.approx(1, abs=1e-3)
    ids = np.where(two_discs() == 2, 300, two_discs())
    np.testing.assert_allclose(ridge(gap_distance(ids, 12), sigma=3), weights)


def test_edge_weighted_cross_entropy_by_hand():
    logits = torch.tensor([[[2.0, 1.0, 0.0, 0.0, 1.0, 3.0], [0.0] * 6]])[:, :, None]
    label = torch.from_numpy(ROW)[None, None]
    weights = torch.from_numpy(edge_weights(ROW, sigma=2))
    each = torch.nn.functional.cross_entropy(logits, label[:, 0], reduction="none")[0]
    expected = (each * weights).sum() / weights.sum()

    assert torch.allclose(EdgeWeightedCELoss(sigma=2)(logits, label), expected)
    given = EdgeWeightedCELoss()(logits, label, weight=weights[None, None])
    assert torch.allclose(given, expected)
    flat = EdgeWeightedCELoss(height=0)(logits, label)
    assert torch.allclose(flat, CrossEntropyLoss()(logits, label))


def test_boundary_loss_by_hand():
    logits = torch.zeros(1, 2, 1, 6)
    logits[0, 1, 0] = torch.tensor([-30.0, -30, 30, 30, 30, -30])
    label = torch.from_numpy(ROW)[None, None]

    # Foreground on one voxel outside (+.5) and two inside (-.5, -1.5).
    assert BoundaryLoss()(logits, label).item() == pytest.approx(-1.5 / 6)
    tall = BoundaryLoss(spacing_um=(0.02, 0.01))(logits.mT, label.mT)
    assert tall.item() == pytest.approx(-3 / 6)


@pytest.mark.parametrize("loss", LOSSES)
def test_unannotated_voxels_have_no_gradient(loss):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 24, 30, requires_grad=True)
    label = torch.from_numpy(np.stack([two_discs(), two_discs().T.reshape(24, 30)]))
    label = label[:, None].clone()
    label[0, :, :, :9] = 255
    hidden = (label == 255).expand_as(logits)

    loss(logits, label).backward()

    assert (logits.grad[hidden] == 0).all()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[~hidden] != 0).any()


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_annotated_and_one_class_alone_are_finite(loss):
    logits = torch.randn(1, 3, 6, 6, requires_grad=True)

    for value in (255, 0, 2):
        logits.grad = None
        total = loss(logits, torch.full((1, 1, 6, 6), value))
        total.backward()

        assert torch.isfinite(total)
        assert torch.isfinite(logits.grad).all()
        assert value != 255 or (total == 0 and (logits.grad == 0).all())
