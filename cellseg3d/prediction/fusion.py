"""Fuse the class probabilities of several sources into one set of probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.core.spacing import Spacing

FuseMode = Literal["mean", "weighted", "product", "vote", "maximum"]
FUSE_MODES: tuple[str, ...] = get_args(FuseMode)
# Probabilities in a product are raised to at least this number, so that one source
# that is certain cannot overrule all others.
FLOOR = 1e-4
# The least fused probability that a logarithm is taken of.
LEAST = 2.0**-16
# Voxels whose class is decided at a time.
SLAB = 2**20


@dataclass(frozen=True)
class Fusion:
    """How the probabilities of several sources become one answer.

    Parameters
    ----------
    mode : {"mean", "weighted", "product", "vote", "maximum"}
        ``"mean"`` is the mean of the probabilities and ``"weighted"`` their mean under
        `weights`. ``"product"`` is their geometric mean under `weights`, a log-opinion
        pool [1]_. ``"vote"`` takes the class that most sources find likeliest, and of
        equal ones that of the higher mean. ``"maximum"`` takes the largest probability.
    weights : tuple of tuple of float
        One row for each source with one number >= 0 for each class. When empty, all
        sources count alike.

    References
    ----------
    .. [1] Genest and Zidek 1986, Stat. Sci. 1:114, doi:10.1214/ss/1177013825
    """

    mode: str = "mean"
    weights: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in FUSE_MODES:
            message = (
                f"`fuse` is {self.mode!r}; expected one of {', '.join(FUSE_MODES)}"
            )
            raise ConfigError(message)

    def rows(self, sources: int, classes: int) -> Tensor:
        """Return the weights (sources, classes); those of each class sum to 1.

        Raises
        ------
        ConfigError
            If their shape is another, a weight is negative, or all weights of a class
            are zero.
        """
        if not self.weights:
            return torch.full((sources, classes), 1 / sources, dtype=torch.float32)
        rows = torch.tensor(self.weights, dtype=torch.float32)
        fits = tuple(rows.shape) == (sources, classes)
        if not fits or float(rows.min()) < 0 or float(rows.sum(0).min()) <= 0:
            message = (
                f"the fusion weights have shape {list(rows.shape)}; expected {sources} "
                f"sources x {classes} classes, numbers >= 0, and at least one above 0 "
                "for each class"
            )
            raise ConfigError(message)
        return rows / rows.sum(0)

    @property
    def adds(self) -> bool:
        """Whether the answer is a sum of weighted probabilities."""
        return self.mode in ("mean", "weighted")

    def kept(self, rows: Tensor) -> int:
        """Return how many sums a voxel needs under these `rows` of weights.

        Two classes of equal weights need one sum, because their probabilities sum to 1.
        """
        sources, classes = rows.shape
        same = bool(torch.equal(rows, rows[:, :1].expand(sources, classes)))
        return 1 if classes == 2 and same and self.adds else classes

    def bytes_per_voxel(self, sources: int, classes: int) -> int:
        """Return the bytes that the sums of several sources take for each voxel.

        Raises
        ------
        ConfigError
            As for `rows`.
        """
        votes = classes if self.mode == "vote" else 0
        return votes + 4 * self.kept(self.rows(sources, classes))


@dataclass
class Fuser:
    """Collect the probabilities of all sources in one chunk and fuse them.

    Parameters
    ----------
    fusion : Fusion
    sources, classes : int
    shape : tuple of int
        Shape of the chunk (z, y, x), in voxels.
    compare : bool
        Whether to keep the sums that `uncertainty` needs.
    device : torch.device
        Where the sums lie, and all that is added to them.
    """

    fusion: Fusion
    sources: int
    classes: int
    shape: Zyx
    compare: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _sum: Tensor = field(init=False)
    _votes: Tensor | None = field(init=False, default=None)
    _entropy: Tensor | None = field(init=False, default=None)
    _mean: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._rows = self.fusion.rows(self.sources, self.classes).to(self.device)
        self._kept = self.fusion.kept(self._rows)
        every, device = (self.classes, *self.shape), self.device
        self._sum = torch.zeros((self._kept, *self.shape), device=device)
        if self.fusion.mode == "vote":
            self._votes = torch.zeros(every, dtype=torch.uint8, device=device)
        if self.compare and self.sources > 1:
            self._entropy = torch.zeros(self.shape, device=device)
            self._mean = torch.zeros(every, device=device)

    def add(self, source: int, roi: Roi, probs_kzyx: Tensor) -> None:
        """Add one source's probabilities of a region.

        Each source must add each voxel of the chunk exactly once.

        Parameters
        ----------
        source : int
            Number of the source, from 0.
        roi : Roi
            The region, in voxels from the chunk's first voxel.
        probs_kzyx : tensor of float32, shape (K, *roi.shape)
            Class probabilities in [0, 1].
        """
        place = (slice(None), *roi.slices)
        part = self._sum[place]
        if self._entropy is not None and self._mean is not None:
            self._entropy[roi.slices] += entropy(probs_kzyx) / self.sources
            self._mean[place] += probs_kzyx / self.sources
        if self.fusion.mode == "maximum":
            torch.maximum(part, probs_kzyx, out=part)
            return
        if self._votes is not None:
            winner = probs_kzyx.argmax(0, keepdim=True)
            ones = torch.ones_like(winner, dtype=torch.uint8)
            self._votes[place].scatter_add_(0, winner, ones)
        values = probs_kzyx
        if self.fusion.mode == "product":
            values = probs_kzyx.clamp_min(FLOOR).log()
        rows = self._rows[source].view(-1, 1, 1, 1)
        if self._kept < self.classes:
            values, rows = values[1:], rows[1:]
        part.add_(values * rows)

    def probs(self, place: tuple[slice, ...] = ()) -> Tensor:
        """Return the fused probabilities (K, z, y, x), float32, which sum to 1.

        Parameters
        ----------
        place : tuple of slice, optional
            The ranges of z, y and x to return; all voxels by default.
        """
        index = (slice(None), *place)
        total = self._sum[index]
        if self._votes is not None:
            # The mean is scaled below one vote, so that it only decides ties.
            scores = self._votes[index].float() + total * 0.5
            return scores / scores.sum(0, keepdim=True)
        if self.fusion.mode == "product":
            return total.softmax(0)
        if self._kept < self.classes:
            return torch.cat([1 - total, total])
        return total / total.sum(0, keepdim=True)

    def labels(self) -> Tensor:
        """Return the likeliest class of each voxel, uint8 (z, y, x).

        This may be called once only, because the labels are written over the sums to
        save memory.
        """
        size = math.prod(self.shape)
        found = self._sum.view(torch.uint8).flatten()[:size].view(self.shape)
        depth = max(1, SLAB // math.prod(self.shape[1:]))
        for first in range(0, self.shape[0], depth):
            slab = slice(first, first + depth)
            if self._kept < self.classes:
                found[slab] = self._sum[0, slab] > 0.5
            else:
                found[slab] = labels_of(self.probs((slab,)))
        return found

    def uncertainty(self, fused_kzyx: Tensor) -> Tensor:
        """Return the uncertainty of each voxel (z, y, x), from 0 (certain) to 1.

        With several sources it is how far they disagree: their Jensen-Shannon
        divergence [1]_ divided by its largest possible value. With one source it is
        the entropy of its probabilities divided by that of a uniform guess.

        Parameters
        ----------
        fused_kzyx : tensor of float32, shape (K, z, y, x)
            The fused probabilities.

        References
        ----------
        .. [1] Lin 1991, IEEE Trans. Inf. Theory 37:145, doi:10.1109/18.61115
        """
        most = math.log(self.classes)
        if self._entropy is None or self._mean is None:
            return (entropy(fused_kzyx) / most).clamp(0, 1)
        apart = entropy(self._mean) - self._entropy
        return (apart / min(most, math.log(self.sources))).clamp(0, 1)


def probs_of(logits_kzyx: Tensor, temperature: float = 1.0) -> Tensor:
    """Return class probabilities (K, z, y, x), float32; a CUDA GPU keeps its own.

    The bits of a voxel do not depend on the region or the number of threads, which
    torch's softmax does not promise on a CPU.

    Parameters
    ----------
    logits_kzyx : tensor, shape (K, z, y, x)
        Logits on any device, in any number format. With shape (1, z, y, x), the second
        of two classes' logits less the first.
    temperature : float
        What logits are divided by first; the likeliest class stays the same.
    """
    if temperature != 1.0:
        logits_kzyx = logits_kzyx.float() / temperature
    if logits_kzyx.is_cuda:
        wide = logits_kzyx.float()
        if len(wide) == 1:
            second = wide.sigmoid()
            return torch.cat([1 - second, second])
        return wide.softmax(0)
    scores = logits_kzyx.float().cpu().numpy()
    if len(scores) <= 2:
        less = -scores[0] if len(scores) == 1 else scores[0] - scores[1]
        with np.errstate(over="ignore"):
            second = 1 / (1 + np.exp(less))
        return torch.from_numpy(np.stack([1 - second, second]))
    grown = np.exp(scores - scores.max(axis=0))
    total = grown[0].copy()
    for part in grown[1:]:
        total += part
    return torch.from_numpy(grown / total)


def tempered(probs_kzyx: Tensor, temperature: float) -> Tensor:
    """Return probabilities (K, z, y, x) at a temperature.

    Each is raised to the power of 1 / temperature, and their sum is made 1. This is the
    softmax of logits that are divided by the temperature, for probabilities that were
    averaged over several sources and have no logits.
    """
    if temperature == 1.0:
        return probs_kzyx
    return probs_of(scores_of(probs_kzyx), temperature)


def scores_of(probs_kzyx: Tensor) -> Tensor:
    """Return the logarithms of fused probabilities, which stand in for their logits."""
    return probs_kzyx.clamp_min(LEAST).log()


def entropy(probs_kzyx: Tensor) -> Tensor:
    """Return the entropy of each voxel's probabilities (K, z, y, x), in nats."""
    summed: Tensor = torch.special.entr(probs_kzyx).sum(0)
    return summed


def labels_of(scores_kzyx: Tensor) -> Tensor:
    """Return the class with the highest score of each voxel, uint8 (z, y, x).

    Of equal scores the lower class wins, as with argmax, which takes longer.

    Parameters
    ----------
    scores_kzyx : tensor, shape (K, z, y, x)
        Logits or probabilities. With shape (1, z, y, x), the second of two classes'
        logits less the first.
    """
    if len(scores_kzyx) == 1:
        return (scores_kzyx[0] > 0).to(torch.uint8)
    if len(scores_kzyx) == 2:
        return (scores_kzyx[1] > scores_kzyx[0]).to(torch.uint8)
    best = scores_kzyx[0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for index, scores in enumerate(scores_kzyx[1:], start=1):
        higher = scores > best
        labels.masked_fill_(higher, index)
        torch.maximum(best, scores, out=best)
    return labels


def anisotropy_prior(axes: Sequence[str], spacing: Spacing | None) -> tuple[float, ...]:
    """Return a weight for each axis, from the shape of the pixels of its slices.

    Slices across an axis have pixels whose edges lie along the other two axes. The
    coarser these edges are, the less such slices show, so the weight of an axis is the
    finest voxel edge squared divided by the area of a pixel of its slices. Cubic voxels
    give all axes weight 1.

    Parameters
    ----------
    axes : sequence of str
        Axis letters.
    spacing : Spacing or None
        Voxel edges in um. When None, all axes get weight 1.
    """
    if spacing is None:
        return (1.0,) * len(axes)
    edges = dict(zip("zyx", spacing.zyx, strict=True))
    finest = min(edges.values())
    weights = []
    for axis in axes:
        first, second = (edge for letter, edge in edges.items() if letter != axis)
        weights.append(finest**2 / (first * second))
    return tuple(weights)
