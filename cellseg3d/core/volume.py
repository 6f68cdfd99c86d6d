"""One 3D array, or one for each channel, with its spacing, unit and origin."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike, OneChannel
from cellseg3d.core.errors import AxisError
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.spacing import Spacing

IntensityUnit = Literal["1/um", "arbitrary"]


@dataclass(frozen=True)
class Volume:
    """Voxels in the order (z, y, x), of one or several channels, with their spacing.

    Parameters
    ----------
    array : ndarray or lazy array, shape (Z, Y, X) or (C, Z, Y, X)
        The voxels, in the dtype of the file. A 2D image has Z = 1. A volume of several
        channels has the channel as its first axis; all channels share one grid.
    spacing : Spacing or None
        Edge lengths of a voxel in um. None means that the file does not state them;
        they are never guessed.
    intensity_unit : {"1/um", "arbitrary"}
        Unit of the intensities: ``"1/um"`` for linear absorption coefficients.
    provenance : mapping
        Where the voxels came from: at least ``"path"`` and ``"format"`` for a file;
        ``"simulated": True`` for simulated data.
    affine_mm : ndarray of float64, shape (4, 4), or None
        The NIfTI affine, from voxel (x, y, z) to RAS+ mm, kept so that labels can be
        written to the same place as the image; None for files that have none.
    channel_names : tuple of str
        The names of the channels; empty if they are unknown. Names whose number is not
        that of the channels are left out, as for labels that are made of an image.

    Raises
    ------
    AxisError
        If the array does not have three or four dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from cellseg3d import Spacing, Volume
    >>> volume = Volume(np.zeros((4, 8, 8), np.float32), Spacing(0.05, 0.01, 0.01))
    >>> volume.shape, volume.spacing.z
    ((4, 8, 8), 0.05)
    """

    array: ArrayLike
    spacing: Spacing | None = None
    intensity_unit: IntensityUnit = "arbitrary"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    affine_mm: NDArray[np.float64] | None = None
    channel_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.array.shape) not in (3, 4) or 0 in self.array.shape[:-3]:
            message = (
                f"{self.name}: a volume has three axes (z, y, x), or four with "
                f"channels (c, z, y, x); found an array of shape "
                f"{tuple(self.array.shape)}"
            )
            raise AxisError(message)
        if len(self.channel_names) != self.channels:
            object.__setattr__(self, "channel_names", ())

    @property
    def name(self) -> str:
        """The file's path, or ``"volume"`` for voxels that came from no file."""
        return str(self.provenance.get("path", "volume"))

    @property
    def shape(self) -> Zyx:
        """The number of voxels along (z, y, x)."""
        return zyx(self.array.shape[-3:])

    @property
    def channels(self) -> int:
        """The number of channels; 1 for an array of three axes."""
        return 1 if len(self.array.shape) == 3 else int(self.array.shape[0])

    @property
    def nbytes(self) -> int:
        """The bytes that all voxels of all channels take in memory."""
        return self.channels * Roi.whole(self.shape).size * self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of a voxel."""
        return np.dtype(self.array.dtype)

    def read(self, roi: Roi | None = None) -> NDArray[Any]:
        """Return the voxels of a region of the volume; all voxels when None.

        Returns
        -------
        ndarray, shape (z, y, x), or (C, z, y, x) if the array has an axis of channels
        """
        region = Roi.whole(self.shape) if roi is None else roi
        every = (slice(None),) * (len(self.array.shape) - 3)
        return np.asarray(self.array[(*every, *region.slices)])

    def channel(self, number: int) -> "Volume":
        """Return one channel as a volume of three axes; its voxels are not read yet.

        Raises
        ------
        AxisError
            If the volume has no such channel.
        """
        if not 0 <= number < self.channels:
            message = (
                f"{self.name}: has {self.channels} channels, so channel {number} does "
                f"not exist; choose one of 0..{self.channels - 1}"
            )
            raise AxisError(message)
        if len(self.array.shape) == 3:
            return self
        return replace(
            self,
            array=OneChannel(self.array, number),
            channel_names=self.channel_names[number : number + 1],
        )

    def each_channel(self) -> "tuple[Volume, ...]":
        """Return the channels, each as a volume of three axes."""
        return tuple(self.channel(number) for number in range(self.channels))

    def channel_called(self, number: int) -> str:
        """Return a channel's name, or ``"channel 2"`` if it has none."""
        return self.channel_names[number] if self.channel_names else f"channel {number}"

    def with_array(self, array: ArrayLike) -> "Volume":
        """Return a volume of other voxels with the same spacing, unit and origin."""
        return replace(self, array=array)
