"""A cascade: one network finds the cell, a second one the nucleus inside it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cellseg3d.core.errors import LabelError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.models.losses import DiceCELoss
from cellseg3d.models.target import Annotated

CLASSES = 3


class Cascade(nn.Module):
    """Two networks in turn; the second sees only what the first found to be cell.

    The first network returns the log-odds a of cell against background; a voxel is cell
    where a > 0. The second one gets the image with all other voxels set to `outside`
    and returns the log-odds b of nucleus against cytoplasm; outside the cell b is 0.

    The logits of background, cytoplasm and nucleus are 0, a - max(b, 0) and
    a - max(-b, 0). So the predicted class is 0 exactly where the first network finds no
    cell, and otherwise 1 or 2 as the second one decides.

    Parameters
    ----------
    stage_one, stage_two : Module
        Each takes (N, C, ...) and returns one channel, (N, 1, ...).
    outside : float
        Scaled intensity of the voxels hidden from stage two; -1 is the lower end of the
        intensity scale.
    """

    def __init__(
        self, stage_one: nn.Module, stage_two: nn.Module, outside: float = -1.0
    ) -> None:
        super().__init__()
        self.stage_one = stage_one
        self.stage_two = stage_two
        self.outside = float(outside)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, 3, ...), float32, of an image (N, C, ...).

        No gradient passes from stage two into stage one.
        """
        cell: Tensor = self.stage_one(image).float()
        fired = (cell > 0).to(image.dtype)
        inside: Tensor = image * fired + self.outside * (1 - fired)
        nucleus: Tensor = self.stage_two(inside).float() * fired.float()
        return torch.cat(
            [
                torch.zeros_like(cell),
                cell - functional.relu(nucleus),
                cell - functional.relu(-nucleus),
            ],
            dim=1,
        )


class CascadeLoss(nn.Module):
    """The loss of both stages; stage two is trained only where stage one finds cell.

    All other voxels, and those labelled 255, count as not annotated for stage two and
    have a gradient of zero. Where stage one wrongly finds cell, stage two learns that
    there is no nucleus.

    Parameters
    ----------
    cell, nucleus : Module, optional
        Losses for two classes, called as ``loss(logits, label)``; Dice plus cross
        entropy when None.
    nucleus_share : float
        Weight of the loss of stage two.
    """

    def __init__(
        self,
        cell: nn.Module | None = None,
        nucleus: nn.Module | None = None,
        nucleus_share: float = 1.0,
    ) -> None:
        super().__init__()
        self.cell = cell or DiceCELoss()
        self.nucleus = nucleus or DiceCELoss()
        self.nucleus_share = float(nucleus_share)

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of a cascade's logits (N, 3, ...) for a label (N, 1, ...).

        Parameters
        ----------
        logits : tensor of float
        label : tensor
            0 background, 1 cytoplasm, 2 nucleus, 255 not annotated.
        annotated : (N, 3) of bool, optional
            A sample that is not annotated for cytoplasm does not train stage one; one
            not annotated for nuclei does not train stage two.

        Raises
        ------
        LabelError
            If the label holds another value, or the shapes do not fit.
        """
        logits, label = logits.as_subclass(Tensor), label.as_subclass(Tensor)
        known = label != IGNORE
        strange = known & ((label < 0) | (label >= CLASSES))
        if bool(strange.any()):
            message = (
                f"label holds {int(label[strange][0])}; a cascade takes 0 background, "
                "1 cytoplasm, 2 nucleus, 255 not annotated: map the others in the "
                "datalist's label_map"
            )
            raise LabelError(message)
        cell, nucleus = log_odds(logits)
        for_one, for_two = known, known & (cell.detach() > 0)
        if annotated is not None:
            seen = torch.as_tensor(annotated, dtype=torch.bool, device=label.device)
            room = (-1, *[1] * (label.ndim - 1))
            for_one = for_one & seen[:, 1].view(room)
            for_two = for_two & seen[:, 2].view(room)
        loss: Tensor = self.cell(_against_zero(cell), _binary(label > 0, for_one))
        inner: Tensor = self.nucleus(
            _against_zero(nucleus), _binary(label == CLASSES - 1, for_two)
        )
        return loss + self.nucleus_share * inner


def log_odds(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs of both stages, computed from a cascade's logits (N, 3, ...).

    Returns
    -------
    tuple of tensor, each of shape (N, 1, ...)
        Log-odds of cell against background, and of nucleus against cytoplasm (0 where
        stage one finds no cell).
    """
    scores = logits.float()
    cell = scores[:, 1:].amax(1, keepdim=True) - scores[:, :1]
    return cell, scores[:, 2:] - scores[:, 1:2]


def _against_zero(odds: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(odds), odds], dim=1)


def _binary(truth: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, truth.long(), IGNORE)
