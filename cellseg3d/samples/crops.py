"""Cut a slice, a stack or a patch out of a volume and pad it if it passes a border."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.axes import axis_index
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Zyx, zyx
from cellseg3d.datasets.intensity import Amount, IntensityScale, Scaling


def crop_start(shape: Sequence[int], centre: Sequence[int], size: Sequence[int]) -> Zyx:
    """Return the first voxel of a crop that contains `centre` and lies in the volume.

    Along an axis on which the crop is longer than the volume, the start is negative, so
    that the volume lies in the middle of the crop.

    Parameters
    ----------
    shape, centre, size : sequence of int
        Shape of the volume, a voxel in it, and shape of the crop (z, y, x), in voxels.
    """
    starts = []
    for length, middle, side in zip(shape, centre, size, strict=True):
        if side >= length:
            starts.append(-((side - length) // 2))
        else:
            starts.append(min(max(0, middle - side // 2), length - side))
    return zyx(starts)


def crop_image(
    image: NDArray[Any],
    centre: Sequence[int],
    spec: InputSpec,
    axis: str,
    scaling: tuple[IntensityScale, Amount, Amount],
) -> NDArray[np.float32]:
    """Return a network input, scaled and then padded by reflection.

    Parameters
    ----------
    image : ndarray of a numeric dtype, shape (Z, Y, X) or (C, Z, Y, X)
        Raw intensities.
    centre : sequence of int
        A voxel (z, y, x) that the crop contains; for 2D and 2.5D it gives the slice.
    spec : InputSpec
        The network's input: dimensions, context and patch shape.
    axis : str
        The axis that slices are cut across; unused for 3D.
    scaling : tuple
        The intensity scale, and the volume's offset and factor.

    Returns
    -------
    ndarray of float32, contiguous
        Shape (C * (2k + 1), h, w), or (C, z, y, x) for 3D. A stack has the slices of
        the first channel, then those of the second, and so on. Where a stack passes
        the first or last slice of the volume, that slice is repeated.
    """
    scale, offset, factor = scaling
    if image.ndim == 4:
        amounts = Scaling(offset, factor).by_channel
        parts = [
            crop_image(part, centre, spec, axis, (scale, *amount))
            for part, amount in zip(image, amounts, strict=True)
        ]
        return np.concatenate(parts)
    view, pads = _view(image, centre, spec, axis, spec.context)
    scaled = np.ascontiguousarray(scale.apply(view, offset, factor))
    return np.pad(scaled, pads, mode="reflect") if np.any(pads) else scaled


def crop_label(
    label_zyx: NDArray[Any], centre: Sequence[int], spec: InputSpec, axis: str
) -> NDArray[np.float32]:
    """Return the label of the centre slice (2D and 2.5D) or of the patch (3D).

    Parameters
    ----------
    label_zyx : ndarray of unsigned integers, shape (Z, Y, X)
        Class indices or object ids.
    centre, spec, axis
        As for `crop_image`.

    Returns
    -------
    ndarray of float32, contiguous
        Shape (1, h, w) or (1, z, y, x), with 255 outside of the volume.
    """
    view, pads = _view(label_zyx, centre, spec, axis, 0)
    label = np.array(view, np.float32, order="C")
    if not np.any(pads):
        return label
    return np.pad(label, pads, constant_values=IGNORE)


def _view(
    array: NDArray[Any], centre: Sequence[int], spec: InputSpec, axis: str, context: int
) -> tuple[NDArray[Any], list[tuple[int, int]]]:
    """Return the part inside the volume, channels first, and the padding it needs."""
    size = spec.patch_zyx(axis)
    start = crop_start(array.shape, centre, size)
    key: list[slice] = []
    pads = []
    for begin, side, length in zip(start, size, array.shape, strict=True):
        end = begin + side
        key.append(slice(max(0, begin), min(end, length)))
        pads.append((max(0, -begin), max(0, end - length)))
    if spec.spatial_dims == 3:
        return array[tuple(key)][None], [(0, 0), *pads]
    across = axis_index(axis)
    middle, last = int(centre[across]), array.shape[across] - 1
    pads.pop(across)
    if middle - context >= 0 and middle + context <= last:
        key[across] = slice(middle - context, middle + context + 1)
        stack = array[tuple(key)]
    else:
        numbers = np.clip(np.arange(middle - context, middle + context + 1), 0, last)
        key[across] = slice(None)
        stack = array[tuple(key)].take(numbers, axis=across)
    return np.moveaxis(stack, across, 0), [(0, 0), *pads]
