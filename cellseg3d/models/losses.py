"""Losses for a network's logits; a voxel labelled 255 has a gradient of exactly zero.

Each loss is called as ``loss(logits, label)``, or with ``annotated=`` to say which
classes each sample was annotated for (`target.prepare`). It returns a float32 scalar
that is finite whatever is annotated, and computes in float32 for logits of any dtype.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cellseg3d.core.errors import ConfigError
from cellseg3d.models.target import Annotated, Target, prepare

# As in MONAI: a class that is neither present nor predicted keeps a Dice of 1.
_SMOOTH = 1e-5


class DiceLoss(nn.Module):
    """One minus the soft Dice of the whole batch, averaged over classes [1]_.

    Parameters
    ----------
    include_background : bool
        Whether class 0 counts in the mean.
    batch : bool
        Whether to compute one Dice over all samples together, which a sample without
        the class changes little; otherwise the mean over samples.
    class_weights : sequence of float, optional
        One weight per class, background included, for the mean over classes.

    References
    ----------
    .. [1] Milletari et al. 2016, 3DV, doi:10.1109/3DV.2016.79
    """

    def __init__(
        self,
        *,
        include_background: bool = True,
        batch: bool = True,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.batch = batch
        self.over_classes = ClassMean(
            include_background, checked_weights(class_weights)
        )

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of logits (N, K, ...) for a label (N, 1, ...)."""
        return self.of(prepare(logits, label, annotated))

    def of(self, target: Target) -> Tensor:
        """Return the loss of a target that `prepare` returned."""
        return self.over_classes.mean(1.0 - overlap(target, batch=self.batch))


class LogDiceLoss(nn.Module):
    """The mean over classes of (-log Dice) ** power [1]_.

    Parameters
    ----------
    power : float
        1 gives the plain logarithm; below 1, classes that are nearly right count more.
    include_background, batch, class_weights
        As for `DiceLoss`.

    References
    ----------
    .. [1] Wong et al. 2018, MICCAI, doi:10.1007/978-3-030-00931-1_70
    """

    def __init__(
        self,
        *,
        power: float = 1.0,
        include_background: bool = True,
        batch: bool = True,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.power, self.batch = power, batch
        self.over_classes = ClassMean(
            include_background, checked_weights(class_weights)
        )

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of logits (N, K, ...) for a label (N, 1, ...)."""
        target = prepare(logits, label, annotated)
        loss = -overlap(target, batch=self.batch).log()
        return self.over_classes.mean(_raised(loss, self.power))


class TverskyLoss(nn.Module):
    """One minus the Tversky index, which weighs misses and false alarms apart [1]_.

    Parameters
    ----------
    false_alarm, miss : float
        Weight of a false positive and of a false negative; .5 and .5 give Dice.
    power : float
        Below 1, difficult classes count more (focal Tversky uses 0.75).
    include_background, batch, class_weights
        As for `DiceLoss`.

    References
    ----------
    .. [1] Salehi et al. 2017, MLMI, doi:10.1007/978-3-319-67389-9_44
    """

    def __init__(
        self,
        *,
        false_alarm: float = 0.3,
        miss: float = 0.7,
        power: float = 1.0,
        include_background: bool = True,
        batch: bool = True,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.prices = (float(false_alarm), float(miss))
        self.power, self.batch = power, batch
        self.over_classes = ClassMean(
            include_background, checked_weights(class_weights)
        )

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of logits (N, K, ...) for a label (N, 1, ...)."""
        target = prepare(logits, label, annotated)
        loss = 1.0 - overlap(target, self.prices, batch=self.batch)
        return self.over_classes.mean(_raised(loss, self.power))


class CrossEntropyLoss(nn.Module):
    """The mean of -log p of the true class over the annotated voxels.

    Parameters
    ----------
    class_weights : sequence of float, optional
        One weight per class; each voxel is weighted by its true class.
    """

    def __init__(self, *, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.class_weights = checked_weights(class_weights)

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of logits (N, K, ...) for a label (N, 1, ...)."""
        return self.of(prepare(logits, label, annotated))

    def of(self, target: Target, scale: Tensor | None = None) -> Tensor:
        """Return the loss of a target from `prepare`, each voxel scaled by (N, ...)."""
        loss = -target.true_log_probs()
        if scale is not None:
            loss = loss * scale
        if self.class_weights is None:
            return target.mean(loss)
        by_class = for_classes(self.class_weights, target.classes, loss)
        return target.mean(loss, by_class[target.truth])


class FocalLoss(nn.Module):
    """Cross entropy in which voxels that are hard to classify count more [1]_.

    Parameters
    ----------
    class_weights : sequence of float, optional
        One weight per class; each voxel is weighted by its true class.
    focus : float
        Each voxel's loss is multiplied by (1 - p) to this power.

    References
    ----------
    .. [1] Lin et al. 2017, ICCV, doi:10.1109/ICCV.2017.324
    """

    def __init__(
        self, *, class_weights: Sequence[float] | None = None, focus: float = 2.0
    ) -> None:
        super().__init__()
        self.cross_entropy = CrossEntropyLoss(class_weights=class_weights)
        self.focus = focus

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of logits (N, K, ...) for a label (N, 1, ...)."""
        target = prepare(logits, label, annotated)
        hard = (-torch.expm1(target.true_log_probs())).clamp_min(1e-8) ** self.focus
        return self.cross_entropy.of(target, hard)


class DiceCELoss(nn.Module):
    """The sum of soft Dice and cross entropy, the default loss.

    Parameters
    ----------
    include_background : bool
        Whether class 0 counts in the Dice part.
    batch : bool
        Whether to compute one Dice over the whole batch instead of one per sample.
    class_weights : sequence of float, optional
        One weight per class, for both parts.
    dice_share, ce_share : float
        Weight of each part.
    """

    def __init__(
        self,
        *,
        include_background: bool = True,
        batch: bool = True,
        class_weights: Sequence[float] | None = None,
        dice_share: float = 1.0,
        ce_share: float = 1.0,
    ) -> None:
        super().__init__()
        self.dice = DiceLoss(
            include_background=include_background,
            batch=batch,
            class_weights=class_weights,
        )
        self.cross_entropy = CrossEntropyLoss(class_weights=class_weights)
        self.dice_share, self.ce_share = dice_share, ce_share

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of logits (N, K, ...) for a label (N, 1, ...)."""
        return self.of(prepare(logits, label, annotated))

    def of(self, target: Target) -> Tensor:
        """Return the loss of a target that `prepare` returned."""
        dice, cross_entropy = self.dice.of(target), self.cross_entropy.of(target)
        return self.dice_share * dice + self.ce_share * cross_entropy


def overlap(
    target: Target, prices: tuple[float, float] = (0.5, 0.5), *, batch: bool = True
) -> Tensor:
    """Return the soft Tversky index of each class; with weights (.5, .5) it is Dice.

    Parameters
    ----------
    target : Target
    prices : (float, float)
        Weights of false positives and of false negatives.
    batch : bool
        Whether to sum over samples too.

    Returns
    -------
    tensor of float32, shape (K,) or, without `batch`, (N, K), in (0, 1]
    """
    probs, truth = target.probs(), target.one_hot()
    dims = [dim for dim in range(probs.ndim) if dim != 1 and (batch or dim)]
    hit = (probs * truth).sum(dims)
    false_alarm = probs.sum(dims) - hit
    miss = truth.sum(dims) - hit
    whole = hit + prices[0] * false_alarm + prices[1] * miss
    return (hit + _SMOOTH / 2) / (whole + _SMOOTH / 2)


@dataclass(frozen=True)
class ClassMean:
    """Compute the mean over the classes that count.

    Parameters
    ----------
    include_background : bool
    class_weights : tuple of float or None
        One weight per class, background included.
    """

    include_background: bool
    class_weights: tuple[float, ...] | None

    def mean(self, loss: Tensor) -> Tensor:
        """Return the mean of a loss (..., K) as a scalar."""
        first = 0 if self.include_background else 1
        counted = loss[..., first:]
        if self.class_weights is None:
            return counted.mean()
        weights = for_classes(self.class_weights, loss.shape[-1], loss)[first:]
        return (counted * weights).sum(-1).mean() / weights.sum()


def _raised(loss: Tensor, power: float) -> Tensor:
    # At 0, where a class is perfect, the slope of a root is infinite.
    return loss if power == 1.0 else loss.clamp_min(1e-6) ** power


def checked_weights(values: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return class weights, which must be >= 0 and not all 0, as a tuple."""
    if values is None:
        return None
    weights = tuple(float(value) for value in values)
    if min(weights) < 0 or max(weights) == 0:
        message = f"class_weights are {list(weights)}; expected numbers >= 0, one > 0"
        raise ConfigError(message)
    return weights


def for_classes(weights: tuple[float, ...], classes: int, like: Tensor) -> Tensor:
    """Return class weights as float32 on the device of `like`.

    Raises
    ------
    ConfigError
        If there is not one weight per class.
    """
    if len(weights) != classes:
        message = (
            f"class_weights has {len(weights)} numbers; the network has {classes} "
            "classes, background included"
        )
        raise ConfigError(message)
    return torch.tensor(weights, dtype=torch.float32, device=like.device)
