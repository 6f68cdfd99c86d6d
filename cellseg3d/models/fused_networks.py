"""Several networks as one network that takes a volume and fuses their answers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.models.geometry import Geometry, geometry_of
from cellseg3d.models.losses import DiceCELoss
from cellseg3d.models.target import Annotated

# Smallest probability before the logarithm, which would be infinite at 0.
LEAST = 1e-7
# The key of the weights of a 3D network in a window's settings.
DEEP = "3d"


class Member(nn.Module):
    """One of several networks, and how it reads a volume.

    Parameters
    ----------
    network : Module
        Takes (N, C, ...) as `spec` describes and returns logits (N, K, ...); its
        attribute `num_classes` is K.
    spec : InputSpec or dict
        The network's input. 2D and 2.5D networks are applied along the axes of the
        window, a 3D network to the whole volume.
    window : mapping, optional
        Settings of its windows in prediction; only ``axes`` and ``fusion`` are used.
    """

    across: list[int]

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec | dict[str, Any],
        window: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.num_classes = int(getattr(network, "num_classes", 0))
        self.spec = InputSpec.parse(spec)
        self.window = dict(window or {})
        self.context = self.spec.context
        axes = "".join(self.window.get("axes") or self.spec.axis)
        self.is_deep = self.spec.spatial_dims == 3
        self.sources = [DEEP] if self.is_deep else list(axes)
        self.across = [] if self.is_deep else [axis_index(axis) for axis in axes]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return logits (N, K, Z, Y, X) of a volume (N, C, Z, Y, X), one per source."""
        if self.is_deep:
            logits: Tensor = self.network(image)
            return [logits]
        answers: list[Tensor] = []
        for across in self.across:
            answers.append(self._swept(image, across))  # noqa: PERF401 - for TorchScript
        return answers

    def _swept(self, image: Tensor, across: int) -> Tensor:
        """Return the logits of every slice across an axis, in the volume's order."""
        length = image.size(2 + across)
        places = torch.arange(-self.context, length + self.context, device=image.device)
        padded = image.index_select(2 + across, places.clamp(0, length - 1))
        stacks = padded.unfold(2 + across, 2 * self.context + 1, 1)
        # From (N, C, ..., L, ..., D) to (N, L, C, D, h, w): each slice becomes a
        # sample.
        slices = stacks.movedim(2 + across, 1).movedim(-1, 3)
        logits: Tensor = self.network(slices.flatten(2, 3).flatten(0, 1))
        sides = [image.size(0), length, logits.size(1), logits.size(2), logits.size(3)]
        return logits.reshape(sides).movedim(1, 2 + across)


class FusedNetworks(nn.Module):
    """Several networks as one network of volumes.

    The output is the logarithm of the mean of the members' probabilities, weighted by
    ``fusion`` of their windows, or all alike without it. In training every source has
    an output of its own; see `EverySourceLoss`.

    The whole volume is computed in one pass, for exports and patches. Prediction runs
    each member in windows of its own instead.

    Parameters
    ----------
    members : mapping of str to Member
        The networks by name.

    Raises
    ------
    ConfigError
        If there is no member, their classes differ, or only some have weights.
    """

    rows: Tensor

    def __init__(self, members: Mapping[str, Member]) -> None:
        super().__init__()
        if not members:
            raise ConfigError("members: none is named; expected at least one network")
        self.members = nn.ModuleDict(
            {name.replace(".", "_"): member for name, member in members.items()}
        )
        classes = {each.num_classes for each in members.values()}
        channels = {each.spec.image_channels for each in members.values()}
        if len(classes) > 1 or len(channels) > 1:
            message = (
                f"members {list(members)}: classes {sorted(classes)}, channels of the "
                f"image {sorted(channels)}; expected the same of all"
            )
            raise ConfigError(message)
        self.num_classes, self.in_channels = classes.pop(), channels.pop()
        self.spatial_dims, self.least = 3, LEAST
        shapes = [geometry_of(member.network) for member in members.values()]
        # Members sweep several axes, so each side is a multiple of every stride.
        stride = math.lcm(*(side for shape in shapes for side in shape.stride))
        sees = any(shape.sees_window for shape in shapes)
        self.geometry = Geometry(3, self.in_channels, (stride,) * 3, sees)
        sources = [
            (member.window.get("fusion"), source)
            for member in members.values()
            for source in member.sources
        ]
        rows = learned_rows(sources, self.num_classes)
        equal = torch.ones(len(sources), self.num_classes)
        chosen = equal if rows is None else torch.tensor(rows)
        # No weight of the network: the windows of the config say it.
        self.register_buffer("rows", chosen / chosen.sum(0), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logarithm of fused probabilities, (N, K, Z, Y, X).

        In training it returns the logits of all sources in turn, (S * N, K, Z, Y, X).

        Parameters
        ----------
        image : tensor of float, shape (N, C, Z, Y, X)
            Scaled intensities.
        """
        answers: list[Tensor] = []
        for member in self.members.values():
            answers += member(image)
        if self.training:
            return torch.cat(answers)
        fused = torch.zeros_like(answers[0])
        for source, logits in enumerate(answers):
            fused = fused + logits.softmax(1) * self.rows[source].view(1, -1, 1, 1, 1)
        return (fused / fused.sum(1, keepdim=True)).clamp_min(self.least).log()


class EverySourceLoss(nn.Module):
    """A loss over the outputs of all sources, each compared with the same label.

    Each member learns as if it were trained alone, and does not learn to correct the
    errors of the others.

    Parameters
    ----------
    loss : Module, optional
        Called as ``loss(logits, label)``; Dice plus cross entropy when None.
    """

    def __init__(self, loss: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss or DiceCELoss()

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of logits (S * N, K, ...) for a label (N, 1, ...)."""
        sources = logits.shape[0] // label.shape[0]
        if annotated is not None:
            annotated = torch.as_tensor(annotated).repeat(sources, 1)
        every = label.repeat(sources, *[1] * (label.ndim - 1))
        loss: Tensor = self.loss(logits, every, annotated)
        return loss


def learned_rows(
    sources: Sequence[tuple[Mapping[str, Sequence[float]] | None, str]], classes: int
) -> list[list[float]] | None:
    """Return the fusion weights in the windows of a bundle, one row per source.

    Parameters
    ----------
    sources : sequence of tuple
        For each source ``fusion`` of its window and its axis (``"3d"`` for 3D).
    classes : int

    Returns
    -------
    list of list of float, or None
        None where no window has weights.

    Raises
    ------
    ConfigError
        If only some sources have weights, or not one weight per class.
    """
    if not any(fusion for fusion, _ in sources):
        return None
    rows = []
    for fusion, source in sources:
        row = list(map(float, (fusion or {}).get(source, ())))
        if len(row) != classes:
            message = (
                f"window: fusion has {len(row)} weights for {source!r}; expected "
                f"{classes}, one a class, for every source of the bundle"
            )
            raise ConfigError(message)
        rows.append(row)
    return rows
