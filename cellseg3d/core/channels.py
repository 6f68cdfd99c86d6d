"""Arrays (C, Z, Y, X) of several channels that are read only where they are indexed."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class ArrayLike(Protocol):
    """What a volume needs of its voxels: a NumPy array, or a lazy one read on demand.

    Indexing with a slice for each axis returns a numpy array of that region alone.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    def __getitem__(self, key: Any, /) -> Any: ...  # noqa: ANN401


@dataclass(frozen=True)
class OneChannel:
    """One channel of an array (C, Z, Y, X), as an array (Z, Y, X) that is read lazily.

    Parameters
    ----------
    array : array of shape (C, Z, Y, X)
    number : int
        The channel, counted from 0.
    """

    array: ArrayLike
    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of voxels along (z, y, x)."""
        return tuple(self.array.shape[1:])

    @property
    def ndim(self) -> int:
        """The number of axes, which napari asks for."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of a voxel."""
        return np.dtype(self.array.dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: ANN401 - as numpy's
        """Return the voxels of a region."""
        keys = key if isinstance(key, tuple) else (key,)
        part = slice(self.number, self.number + 1)
        found: NDArray[Any] = np.asarray(self.array[(part, *keys)])[0]
        return found


@dataclass(frozen=True)
class ChannelStack:
    """Arrays (Z, Y, X) of one shape as an array (C, Z, Y, X) that is read lazily.

    Parameters
    ----------
    parts : tuple of array of shape (Z, Y, X)
        One array for each channel.
    """

    parts: tuple[ArrayLike, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of channels, and of voxels along (z, y, x)."""
        return (len(self.parts), *self.parts[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that holds the voxels of all channels."""
        return np.result_type(*(part.dtype for part in self.parts))

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: ANN401 - as numpy's
        """Return the voxels of a region given by four slices."""
        first, *region = key
        chosen = [np.asarray(part[tuple(region)]) for part in self.parts[first]]
        return np.stack(chosen).astype(self.dtype, copy=False)


@dataclass(frozen=True)
class ChosenChannels:
    """Some channels of an array (C, Z, Y, X) in any order, read lazily.

    Channels that are not chosen are not read, unless they lie between two that are.

    Parameters
    ----------
    array : array of shape (C, Z, Y, X)
    numbers : tuple of int
        The channels, counted from 0.
    """

    array: ArrayLike
    numbers: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of channels, and of voxels along (z, y, x)."""
        return (len(self.numbers), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of a voxel."""
        return np.dtype(self.array.dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: ANN401 - as numpy's
        """Return the voxels of a region given by four slices."""
        first, *region = key
        wanted = self.numbers[first]
        low = min(wanted)
        step = math.gcd(*(number - low for number in wanted)) or 1
        read = self.array[(slice(low, max(wanted) + 1, step), *region)]
        places = [(number - low) // step for number in wanted]
        found = np.asarray(read)
        if places == list(range(len(found))):
            return found
        return found[places]
