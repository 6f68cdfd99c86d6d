"""Prepare logits and labels for the losses; unannotated voxels get no gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from cellseg3d.core.errors import LabelError
from cellseg3d.core.ignore import IGNORE

# Added to a logit, it makes a class impossible and stays finite in float32.
_NEVER = -1e9

Annotated = Tensor | Sequence[Sequence[bool]] | None


@dataclass(frozen=True)
class Target:
    """Predictions and truth of the annotated voxels.

    Parameters
    ----------
    log_probs : tensor of float32, shape (N, K, ...)
        Log-probabilities; constant where not annotated, so no gradient passes there.
    truth : tensor of int64, shape (N, ...)
        Class index; 0 where not annotated.
    valid : tensor of float32, shape (N, ...)
        1 where annotated, else 0.
    whole : bool
        Whether every voxel is annotated; masking is then skipped.
    """

    log_probs: Tensor
    truth: Tensor
    valid: Tensor
    whole: bool = False

    @property
    def classes(self) -> int:
        """The number of classes K."""
        return self.log_probs.shape[1]

    def probs(self) -> Tensor:
        """Return probabilities (N, K, ...), 0 where not annotated."""
        probs = self.log_probs.exp()
        return probs if self.whole else probs * self.valid.unsqueeze(1)

    def one_hot(self) -> Tensor:
        """Return the truth as (N, K, ...) of 0 and 1, 0 where not annotated."""
        empty = torch.zeros_like(self.log_probs, requires_grad=False)
        return empty.scatter_(1, self.truth.unsqueeze(1), self.valid.unsqueeze(1))

    def true_log_probs(self) -> Tensor:
        """Return the log-probability (N, ...) of each voxel's true class."""
        return self.log_probs.gather(1, self.truth.unsqueeze(1)).squeeze(1)

    def mean(self, loss: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the (weighted) mean of a loss (N, ...) over annotated voxels.

        Without an annotated voxel it is 0, with a gradient of 0.
        """
        trust = self.valid if weight is None else self.valid * weight
        total = trust.sum()
        return (loss * trust).sum() / torch.where(total > 0, total, 1.0)


def prepare(logits: Tensor, label: Tensor, annotated: Annotated = None) -> Target:
    """Return logits and label in the form that the losses use, in float32.

    Parameters
    ----------
    logits : tensor of float, shape (N, K, ...)
    label : tensor of any type, shape (N, 1, ...)
        Class index; 255 where not annotated.
    annotated : (N, K) of bool, optional
        Which classes each sample was annotated for. The other classes of a sample count
        as background: their probability is added to that of class 0 [1]_.

    Raises
    ------
    LabelError
        If the shapes do not fit, or a value is neither a class nor 255.

    References
    ----------
    .. [1] Shi et al. 2021, Med. Image Anal. 70:101979 (marginal loss),
       doi:10.1016/j.media.2021.101979
    """
    if label.shape[0] != logits.shape[0] or label.shape[2:] != logits.shape[2:]:
        message = (
            f"label of shape {tuple(label.shape)} for logits of shape "
            f"{tuple(logits.shape)}; expected the same samples and the same size"
        )
        raise LabelError(message)
    # MONAI's tensors carry metadata through every operation, which takes time.
    logits, label = logits.as_subclass(Tensor), label.as_subclass(Tensor)
    classes = logits.shape[1]
    known = label[:, 0] != IGNORE
    truth = torch.where(known, label[:, 0], 0).long()
    wrong = (truth < 0) | (truth >= classes)
    if bool(wrong.any()):
        message = (
            f"label holds {int(truth[wrong][0])}, the network has {classes} classes "
            f"(0 to {classes - 1}, 255 = not annotated); map the value or raise "
            "num_classes"
        )
        raise LabelError(message)
    # Replaced before the softmax, so that a NaN cannot reach the gradient.
    whole = bool(known.all())
    safe = logits.float()
    if not whole:
        safe = torch.where(known.unsqueeze(1), safe, 0.0)
    if annotated is not None:
        safe, truth = _merge(safe, truth, annotated)
    log_probs = _LogSoftmax.apply(safe)  # type: ignore[no-untyped-call]
    return Target(log_probs, truth, known.float(), whole)


class _LogSoftmax(torch.autograd.Function):
    """``log_softmax`` over the classes with a faster gradient.

    torch's own gradient takes five times as long for volumes on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:  # noqa: ANN401 - torch's signature
        log_probs = functional.log_softmax(logits, dim=1)
        ctx.save_for_backward(log_probs)
        return log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        [log_probs] = ctx.saved_tensors
        total = gradient.sum(1, keepdim=True)
        return torch.addcmul(gradient, log_probs.exp(), total, value=-1)


def _merge(
    logits: Tensor, truth: Tensor, annotated: Tensor | Sequence[Sequence[bool]]
) -> tuple[Tensor, Tensor]:
    """Add the probability of classes a sample was not annotated for to background."""
    seen = torch.as_tensor(annotated, dtype=torch.bool, device=logits.device)
    if seen.shape != logits.shape[:2]:
        message = (
            f"annotated has shape {tuple(seen.shape)}; expected (samples, classes) "
            f"{tuple(logits.shape[:2])}"
        )
        raise LabelError(message)
    seen = seen.clone()
    seen[:, 0] = False
    room = (*seen.shape, *[1] * (logits.ndim - 2))
    kept = seen.view(room)
    background = logits.masked_fill(kept, _NEVER).logsumexp(1, keepdim=True)
    others = torch.where(kept, logits, _NEVER)[:, 1:]
    here = seen.gather(1, truth.flatten(1)).view_as(truth)
    return torch.cat([background, others], dim=1), torch.where(here, truth, 0)
