"""Read and write every format of `cellseg3d.io` with MONAI's LoadImaged and SaveImaged.

``LoadImaged(keys, reader=VolumeReader)`` returns arrays (z, y, x) without a channel
axis, with the spacing in the metadata. ``SaveImaged(keys, writer=VolumeWriter)`` writes
them. If a reader raises an error in ``read``, MONAI tries its other readers, which may
read the file wrongly. `VolumeReader` therefore raises errors later, in ``get_data``.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.data.image_writer import ImageWriter
from monai.utils.enums import MetaKeys, SpaceKeys
from monai.utils.type_conversion import convert_data_type
from numpy.typing import NDArray

from cellseg3d.core.errors import (
    AxisError,
    CellSegError,
    FormatError,
    SpacingError,
)
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.channels import fit_channels
from cellseg3d.io.layout import notes_of
from cellseg3d.io.output.region_writer import exact_cast
from cellseg3d.io.registry import (
    ALL,
    Channels,
    read_labels,
    read_volume,
    volume_suffix,
    write_labels,
    write_volume,
)

PathLike = str | os.PathLike[Any]

UM_PER_MM = 1e3
NOTES_KEY = "cellseg3d_notes"
# torch cannot compute with these unsigned types; the next signed type holds all values.
_TORCH_DTYPES = {"u2": "i4", "u4": "i8"}


class VolumeReader(ImageReader):
    """Read and check any volume that `cellseg3d.io` reads, for MONAI's LoadImaged.

    The array has axes (z, y, x), or (c, z, y, x) if several channels are read; with
    ``EnsureChannelFirstd(keys)`` all have the latter. The metadata hold
    ``spacing_um`` (z, y, x; NaN when unknown), ``affine`` from voxel (z, y, x) to RAS
    in um, ``intensity_unit`` and ``simulated``. For labels give LoadImaged
    ``dtype=None``, because its default turns ids into float32.

    Parameters
    ----------
    labels : bool
        Whether to read labels: integers >= 0 with unchanged values.
    spacing_um : sequence of float, optional
        Voxel edges (z, y, x) in um, instead of the file's.
    channel : int or str, optional
        The channel to read, for a file with several channels, by number or name.
    level : int
        The level to read of an OME-Zarr pyramid.
    channels : int, "all" or sequence of int or str, optional
        Several channels to read, as for `cellseg3d.open_volume`.
    fitting : sequence of str, optional
        The names of the channels on which a network was trained: those are read, as
        `cellseg3d.datasets.channels.fit_channels` finds them.
    """

    def __init__(
        self,
        *,
        labels: bool = False,
        spacing_um: Sequence[float] | None = None,
        channel: int | str | None = None,
        level: int = 0,
        channels: Channels | None = None,
        fitting: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.labels = labels
        self.fitting = fitting
        if fitting and channel is None and channels is None:
            channels = ALL
        self.options: dict[str, Any] = {
            "spacing": spacing_um,
            "channel": channel,
            "level": level,
            "channels": channels,
        }

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Return whether every name has a known suffix or is a folder."""
        return all(
            volume_suffix(name) or Path(name).is_dir() for name in _names(filename)
        )

    def read(
        self,
        data: Sequence[PathLike] | PathLike,
        **kwargs: Any,  # noqa: ANN401 - MONAI's signature
    ) -> list[Volume | CellSegError]:
        """Return the volumes of one or more files; an error object for each failure."""
        reader = read_labels if self.labels else read_volume
        found: list[Volume | CellSegError] = []
        for name in _names(data):
            try:
                volume = reader(name, **{**self.options, **kwargs})
                if self.fitting:
                    names = list(self.fitting)
                    volume = fit_channels(volume, names, len(names), "the network")
                found.append(volume)
            except CellSegError as error:
                found.append(error)
            except Exception as error:
                found.append(
                    FormatError(
                        f"{name}: cannot be read ({type(error).__name__}: {error}); "
                        "look at it with `cellseg3d inspect`"
                    )
                )
        return found

    def get_data(
        self, img: Sequence[Volume | CellSegError]
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the voxels and their metadata.

        Returns
        -------
        array : ndarray, shape (Z, Y, X), or (C, Z, Y, X) for several channels or files
            The voxels, in the file's dtype.
        metadata : dict
            The metadata that the class docstring describes.

        Raises
        ------
        CellSegError
            The error that `read` kept.
        AxisError
            If several files differ in shape or spacing.
        """
        for each in img:
            if isinstance(each, CellSegError):
                raise each
        volumes = [each for each in img if isinstance(each, Volume)]
        first = volumes[0]
        for other in volumes[1:]:
            if other.shape != first.shape or other.spacing != first.spacing:
                raise AxisError(
                    f"{other.name}: has shape {other.shape}, spacing {other.spacing}, "
                    f"and {first.name} has {first.shape}, {first.spacing}; channels of "
                    "one volume need the same shape and spacing"
                )
        arrays = [_for_torch(volume.read()) for volume in volumes]
        metadata = metadata_of(first)
        several = len(arrays) > 1 or first.channels > 1
        if several:
            metadata[MetaKeys.ORIGINAL_CHANNEL_DIM] = 0
        return (arrays[0] if len(arrays) == 1 else np.stack(arrays)), metadata


class VolumeWriter(ImageWriter):
    """Write a volume in any format of `cellseg3d.io`, for MONAI's SaveImaged.

    Values are written exactly. A value that does not fit into ``output_dtype`` is an
    error and never clipped.

    Parameters
    ----------
    output_dtype : dtype, optional
        Type of the values in the file; None keeps the array's. SaveImaged's default is
        float32.
    scale : None
        MONAI's scaling for pictures, which is refused.
    """

    def __init__(
        self,
        output_dtype: Any = None,  # noqa: ANN401 - whatever numpy takes
        scale: int | None = None,
        **kwargs: Any,  # noqa: ANN401 - MONAI's signature
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        if scale is not None:
            raise FormatError(
                f"scale is {scale}, but volumes are written unscaled; leave scale out"
            )
        self.output_dtype = output_dtype
        self.metadata: Mapping[str, Any] = {}

    def set_data_array(
        self,
        data_array: Any,  # noqa: ANN401 - tensor or array
        channel_dim: int | None = 0,
        **kwargs: Any,  # noqa: ANN401 - MONAI's signature
    ) -> None:
        """Set the voxels to write: one channel with axes (z, y, x) or (y, x).

        Raises
        ------
        AxisError
            If there are several channels, or if there are not two or three other axes.
        """
        del kwargs
        array = convert_data_type(data_array, np.ndarray)[0]
        if channel_dim is not None:
            if array.shape[channel_dim] != 1:
                raise AxisError(
                    f"an array of shape {array.shape} has {array.shape[channel_dim]} "
                    "channels; expected one: select a channel or take the argmax first"
                )
            array = array.take(0, axis=channel_dim)
        if array.ndim == 2:
            array = array[np.newaxis]
        if array.ndim != 3:
            raise AxisError(
                f"an array has shape {array.shape}; expected axes (z, y, x)"
            )
        self.data_obj = array

    def set_metadata(
        self,
        meta_dict: Mapping[str, Any] | None = None,
        *,
        resample: bool = False,
        **options: Any,  # noqa: ANN401 - MONAI's signature
    ) -> None:
        """Set spacing, unit and notes from the metadata of `VolumeReader`.

        Raises
        ------
        SpacingError
            If MONAI would have to resample; use ``Invertd`` before instead, which is
            exact.
        """
        del options
        self.metadata = meta_dict or {}
        same = np.array_equal(
            _matrix(self.metadata, MetaKeys.AFFINE),
            _matrix(self.metadata, MetaKeys.ORIGINAL_AFFINE),
        )
        if resample and not same:
            raise SpacingError(
                "SaveImaged was asked to resample to the image's grid; use Invertd "
                "before it and resample=False"
            )

    def write(
        self,
        filename: PathLike,
        verbose: bool = True,  # noqa: FBT001, FBT002 - MONAI's signature
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Write the volume in the format of the file's suffix."""
        super().write(filename, verbose=verbose, **kwargs)
        self._put(filename, volume_of(np.asarray(self.data_obj), self.metadata))

    def _put(self, filename: PathLike, volume: Volume) -> None:
        if self.output_dtype is None:
            write_volume(str(filename), volume)
            return
        dtype = np.dtype(self.output_dtype)
        write_volume(
            str(filename),
            volume.with_array(exact_cast(volume.read(), dtype, str(filename))),
        )


class LabelWriter(VolumeWriter):
    """Write labels for SaveImaged, exactly and in the smallest unsigned dtype.

    SaveImaged's ``output_dtype`` is ignored.
    """

    def _put(self, filename: PathLike, volume: Volume) -> None:
        write_labels(str(filename), volume)


def metadata_of(volume: Volume) -> dict[str, Any]:
    """Return MONAI's metadata of a volume; every value can be collated into a batch."""
    affine = affine_um(volume)
    spacing = volume.spacing
    return {
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(volume.shape),
        # NaN is MONAI's value for "no channel axis".
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        MetaKeys.SPACE: SpaceKeys.RAS,
        "spacing_um": np.asarray(spacing.zyx if spacing else [np.nan] * 3),
        "intensity_unit": volume.intensity_unit,
        "simulated": bool(volume.provenance.get("simulated", False)),
        NOTES_KEY: json.dumps(notes_of(volume), sort_keys=True),
    }


def volume_of(array: NDArray[Any], metadata: Mapping[str, Any]) -> Volume:
    """Return a volume from an array and the metadata of `metadata_of`.

    The spacing is taken from the affine, which MONAI updates after a crop or a
    resampling. It is unknown if the file's spacing was.
    """
    spacing = affine_mm = None
    edges = np.asarray(metadata.get("spacing_um", [np.nan] * 3), np.float64)
    if np.isfinite(edges).all():
        affine = _matrix(metadata, MetaKeys.AFFINE)
        spacing = Spacing.of(np.linalg.norm(affine[:3, :3], axis=0).tolist())
        affine_mm = affine[:, [2, 1, 0, 3]].copy()
        affine_mm[:3] /= UM_PER_MM
    unit = metadata.get("intensity_unit")
    notes = json.loads(str(metadata.get(NOTES_KEY, "{}")))
    return Volume(
        array,
        spacing,
        "1/um" if unit == "1/um" else "arbitrary",
        notes,
        affine_mm,
    )


def affine_um(volume: Volume) -> NDArray[np.float64]:
    """Return the affine from voxel (z, y, x) to RAS in um, shape (4, 4).

    The unit is um and not MONAI's mm, because MONAI considers two affines equal that
    differ by less than 1e-3.
    """
    if volume.affine_mm is not None:
        affine = np.array(volume.affine_mm, np.float64)
        if volume.spacing is not None:
            affine[:3] *= UM_PER_MM
    else:
        z, y, x = volume.spacing.zyx if volume.spacing else (1.0, 1.0, 1.0)
        affine = np.diag([x, y, z, 1.0])
    return affine[:, [2, 1, 0, 3]]


def _matrix(metadata: Mapping[str, Any], key: str) -> NDArray[np.float64]:
    return np.asarray(metadata.get(key, np.eye(4)), np.float64)


def _for_torch(array: NDArray[Any]) -> NDArray[Any]:
    kind = _TORCH_DTYPES.get(f"{array.dtype.kind}{array.dtype.itemsize}")
    return array if kind is None else array.astype(kind)


def _names(filename: Sequence[PathLike] | PathLike) -> list[str]:
    if isinstance(filename, str | os.PathLike):
        return [str(filename)]
    return [str(name) for name in filename]
