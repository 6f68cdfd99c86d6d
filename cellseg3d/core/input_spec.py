"""What a network takes as input: 2D or 2.5D slices along an axis, or 3D patches."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, SupportsIndex

from cellseg3d.core.axes import Axis, axis_index
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.words import refuse_unknown


@dataclass(frozen=True)
class InputSpec:
    """The shape of a network's input. A 2D input is a 2.5D input with context 0.

    Parameters
    ----------
    spatial_dims : {2, 3}
        2 for slices and stacks of slices, 3 for patches of a volume.
    patch_shape : tuple of int
        Shape of a training crop, in voxels: (h, w) for 2, (z, y, x) for 3.
    context : int
        Number of slices on each side of the centre slice that are given to the network
        as further channels; 0 for 2D and for 3D.
    axis : {"z", "y", "x"}
        The axis across which slices are cut; not used for 3D.
    image_channels : int
        Number of channels of the image itself; 1 for a tomogram.

    Raises
    ------
    ConfigError
        If the numbers contradict each other.

    Examples
    --------
    A network that labels a slice and sees two slices on each side of it:

    >>> from cellseg3d import InputSpec
    >>> InputSpec(spatial_dims=2, patch_shape=(64, 64), context=2).in_channels
    5
    """

    spatial_dims: Literal[2, 3]
    patch_shape: tuple[int, ...]
    context: int = 0
    axis: Axis = "z"
    image_channels: int = 1

    def __post_init__(self) -> None:
        numbers = (self.spatial_dims, self.context, self.image_channels)
        if not all(map(_is_whole, (*self.patch_shape, *numbers))):
            message = (
                f"patch_shape {list(self.patch_shape)}, spatial_dims, context and "
                f"image_channels {list(numbers)}: expected whole numbers"
            )
            raise ConfigError(message)
        object.__setattr__(self, "patch_shape", tuple(map(int, self.patch_shape)))
        if self.spatial_dims not in (2, 3):
            message = f"spatial_dims is {self.spatial_dims}; expected 2 or 3"
            raise ConfigError(message)
        if len(self.patch_shape) != self.spatial_dims or min(self.patch_shape) < 1:
            message = (
                f"patch_shape is {list(self.patch_shape)}; expected "
                f"{self.spatial_dims} positive numbers (spatial_dims)"
            )
            raise ConfigError(message)
        if self.context < 0 or (self.spatial_dims == 3 and self.context):
            message = (
                f"context is {self.context} with spatial_dims {self.spatial_dims}; "
                "expected 0 for 3D, 0 or more slices per side for 2D and 2.5D"
            )
            raise ConfigError(message)
        axis_index(self.axis)

    @property
    def in_channels(self) -> int:
        """Channels of the input: 2 * context + 1 slices of each image channel."""
        return self.image_channels * (2 * self.context + 1)

    @property
    def kind(self) -> Literal["2D", "2.5D", "3D"]:
        """The usual name of this kind of input."""
        if self.spatial_dims == 3:
            return "3D"
        return "2.5D" if self.context else "2D"

    def patch_zyx(self, axis: str | None = None) -> tuple[int, int, int]:
        """Return the size (z, y, x), in voxels, that one training sample covers.

        Parameters
        ----------
        axis : str, optional
            Axis across which to cut slices, when it is not the axis of the spec.
        """
        if self.spatial_dims == 3:
            z, y, x = self.patch_shape
            return (z, y, x)
        sides: list[int] = list(self.patch_shape)
        sides.insert(axis_index(axis or self.axis), 2 * self.context + 1)
        z, y, x = sides
        return (z, y, x)

    def seen_shape(
        self, shape: Sequence[int], axis: str | None
    ) -> tuple[int, int, int]:
        """Return the shape (z, y, x) to which a volume is mirrored to be seen.

        Slices are at least as large as those of the training. In 3D the volume stays
        as it is.

        Parameters
        ----------
        shape : sequence of int
            The volume's shape (z, y, x).
        axis : str or None
            The axis across which slices are cut; None in 3D.
        """
        least = [1, 1, 1] if axis is None else list(self.patch_zyx(axis))
        if axis is not None:
            least[axis_index(axis)] = 1
        z, y, x = (max(pair) for pair in zip(shape, least, strict=True))
        return (z, y, x)

    @classmethod
    def parse(cls, values: "InputSpec | dict[str, Any]") -> "InputSpec":
        """Return the spec that a config's mapping describes; return a spec as it is.

        Raises
        ------
        ConfigError
            If a key is unknown, or the numbers contradict each other.
        """
        if isinstance(values, InputSpec):
            return values
        refuse_unknown(values, [field.name for field in fields(cls)], "input spec")
        return cls(**{**values, "patch_shape": _numbers(values.get("patch_shape", ()))})


def _numbers(values: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(values) if isinstance(values, list | tuple) else (values,)


def _is_whole(value: object) -> bool:
    """Return whether a value is a whole number; NumPy's are, True is not."""
    return isinstance(value, SupportsIndex) and not isinstance(value, bool)
