"""Losses that depend on the distance of a voxel from a boundary."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellseg3d.core.ignore import IGNORE
from cellseg3d.models.edges import edge_weights, signed_distance
from cellseg3d.models.losses import checked_weights, for_classes
from cellseg3d.models.target import Annotated, Target, prepare


class EdgeWeightedCELoss(nn.Module):
    """Cross entropy in which errors near a boundary weigh more [1]_.

    Parameters
    ----------
    height, sigma : float
        Height and width of the band of high weights (`edges.edge_weights`); sigma in
        voxels of the finest axis.
    gaps : bool
        Whether to weigh only the gaps between neighbouring objects, as in the paper;
        otherwise every boundary between classes.
    spacing_um : sequence of float, optional
        Voxel edges along the label's spatial dimensions; only their ratios matter.
    class_weights : sequence of float, optional
        One weight per class.

    References
    ----------
    .. [1] Ronneberger et al. 2015, MICCAI, doi:10.1007/978-3-319-24574-4_28
    """

    def __init__(
        self,
        *,
        height: float = 10.0,
        sigma: float = 5.0,
        gaps: bool = False,
        spacing_um: Sequence[float] | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.height, self.sigma, self.gaps = height, sigma, gaps
        self.sampling = _relative(spacing_um)
        self.class_weights = checked_weights(class_weights)

    def forward(
        self,
        logits: Tensor,
        label: Tensor,
        annotated: Annotated = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of logits (N, K, ...) for a label (N, 1, ...).

        Parameters
        ----------
        logits, label, annotated
            As for every loss in `losses`.
        weight : tensor of float, shape (N, 1, ...), optional
            Weights computed beforehand, for instance from object ids; when None they
            are computed from the label.
        """
        target = prepare(logits, label, annotated)
        by_voxel = self._weights_of(target) if weight is None else weight[:, 0]
        if self.class_weights is not None:
            by_class = for_classes(self.class_weights, target.classes, by_voxel)
            by_voxel = by_voxel * by_class[target.truth]
        return target.mean(-target.true_log_probs(), by_voxel)

    def _weights_of(self, target: Target) -> Tensor:
        def weigh(label: NDArray[np.int64]) -> NDArray[np.float32]:
            return edge_weights(
                label,
                height=self.height,
                sigma=self.sigma,
                gaps=self.gaps,
                sampling=self.sampling,
            )

        return _each(target, weigh)


class BoundaryLoss(nn.Module):
    """The mean distance of the predicted foreground from the true boundary [1]_.

    The loss is negative for a good prediction and flat far from one, so add it to a
    region loss with a small weight.

    Parameters
    ----------
    spacing_um : sequence of float, optional
        Voxel edges along the spatial dimensions of the label; distances are in voxels
        of the finest axis.

    References
    ----------
    .. [1] Kervadec et al. 2019, MIDL; 2021, Med. Image Anal. 67:101851,
       doi:10.1016/j.media.2020.101851
    """

    def __init__(self, *, spacing_um: Sequence[float] | None = None) -> None:
        super().__init__()
        self.sampling = _relative(spacing_um)

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of logits (N, K, ...) for a label (N, 1, ...)."""
        target = prepare(logits, label, annotated)
        probs = target.probs()
        loss = torch.zeros_like(target.valid)
        for value in range(1, target.classes):
            loss = loss + probs[:, value] * self._distance(target, value)
        return target.mean(loss) / (target.classes - 1)

    def _distance(self, target: Target, value: int) -> Tensor:
        return _each(target, lambda label: signed_distance(label, value, self.sampling))


def _each(
    target: Target, measure: Callable[[NDArray[np.int64]], NDArray[np.float32]]
) -> Tensor:
    """Return a map (N, ...) computed from each sample's label."""
    known = target.valid.bool()
    labels = torch.where(known, target.truth, IGNORE).cpu().numpy()
    maps = np.stack([measure(label) for label in labels])
    return torch.from_numpy(maps).to(target.valid.device)


def _relative(spacing_um: Sequence[float] | None) -> tuple[float, ...] | None:
    if spacing_um is None:
        return None
    return tuple(float(edge) / float(min(spacing_um)) for edge in spacing_um)
