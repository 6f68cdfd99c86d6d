"""The description that a network is built from, and checks of its options."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.words import did_you_mean, nearest
from cellseg3d.models.ladder import Ladder, build_ladder

DEFAULT_CHANNELS = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Order:
    """Everything that a function which builds a network needs to know."""

    spec: InputSpec
    num_classes: int
    spacing_um: Sequence[float] | Spacing | None
    options: dict[str, Any]

    def ladder(
        self,
        channels: Sequence[int] | None,
        default: Sequence[int] = DEFAULT_CHANNELS,
    ) -> tuple[Ladder, tuple[int, ...]]:
        """Return kernels and strides, with as many levels as there are widths.

        Without widths, the first default widths are used, as many as the patch allows.
        """
        levels = None if channels is None else len(channels)
        ladder = build_ladder(self.spec, self.spacing_um, levels, most=len(default))
        widths = tuple(channels or default)
        return ladder, tuple(map(int, widths[: len(ladder.strides)]))

    def only_slices(self, name: str) -> None:
        """Raise an error if the network of 2D slices is asked for 3D input."""
        if self.spec.spatial_dims != 2:
            message = f"{name} takes slices and stacks; spatial_dims is 3, expected 2"
            raise ConfigError(message)

    def common(self) -> dict[str, Any]:
        """Return the arguments that every MONAI network takes."""
        return {
            "spatial_dims": self.spec.spatial_dims,
            "in_channels": self.spec.in_channels,
            "out_channels": self.num_classes,
        }


Built = tuple[nn.Module, Sequence[int]]


def unknown(what: str, found: str, known: Sequence[str]) -> str:
    """Return a message that lists the known names and suggests the closest one."""
    near = nearest(found, known)
    hint = "" if near is None else did_you_mean(near)
    return f"{what} {found!r} is unknown{hint}; known: {', '.join(known)}"


def norm_name(norm: str) -> str:
    """Return ``"batch"`` or ``"instance"``; raise an error for any other value."""
    if str(norm).lower() not in {"batch", "instance"}:
        message = f"norm is {norm!r}; expected 'batch' or 'instance'"
        raise ConfigError(message)
    return str(norm).lower()
