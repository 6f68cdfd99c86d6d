"""One 3D array with its spacing, the unit of its intensities and its origin."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import AxisError
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.spacing import Spacing

IntensityUnit = Literal["1/um", "arbitrary"]


@runtime_checkable
class ArrayLike(Protocol):
    """What a volume needs of its voxels: a NumPy array, or a lazy one read on demand.

    Indexing with three slices returns a numpy array of that region alone.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    def __getitem__(self, key: Any, /) -> Any: ...  # noqa: ANN401


@dataclass(frozen=True)
class Volume:
    """One 3D array of voxels in the order (z, y, x), with its spacing and unit.

    Parameters
    ----------
    array : ndarray or lazy array, shape (Z, Y, X)
        The voxels, in the dtype of the file. A 2D image has Z = 1.
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

    Raises
    ------
    AxisError
        If the array does not have three dimensions.

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

    def __post_init__(self) -> None:
        if len(self.array.shape) != 3:
            message = (
                f"{self.name}: a volume has three axes (z, y, x); "
                f"found an array of shape {tuple(self.array.shape)}"
            )
            raise AxisError(message)

    @property
    def name(self) -> str:
        """The file's path, or ``"volume"`` for voxels that came from no file."""
        return str(self.provenance.get("path", "volume"))

    @property
    def shape(self) -> Zyx:
        """The number of voxels along (z, y, x)."""
        return zyx(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of a voxel."""
        return np.dtype(self.array.dtype)

    def read(self, roi: Roi | None = None) -> NDArray[Any]:
        """Return the voxels of a region of the volume; all voxels when None."""
        region = Roi.whole(self.shape) if roi is None else roi
        return np.asarray(self.array[region.slices])

    def with_array(self, array: ArrayLike) -> "Volume":
        """Return a volume of other voxels with the same spacing, unit and origin."""
        return replace(self, array=array)
