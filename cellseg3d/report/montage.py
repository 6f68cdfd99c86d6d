"""Pack a volume into pictures from which a browser shows any slice."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.volume import Volume
from cellseg3d.report.inputs import ReportVolume
from cellseg3d.report.legend import Legend

# Phones do not show pictures of more than 16 million pixels.
MOST_VOXELS = 1 << 22
LONGEST_SIDE = 288
TRUE, EXTRA, MISSED, WRONG_CLASS = 1, 2, 3, 4


@dataclass(frozen=True)
class Montage:
    """A volume's slices side by side: image, prediction and truth.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels shown along (z, y, x).
    step : tuple of int
        Distance, in voxels, between two voxels that are shown.
    columns : int
        Number of slices in a row of the pictures.
    image, prediction, truth : str
        ``data:`` URLs of a JPEG and two PNGs, which hold the codes of a `Legend`; empty
        where there is none.
    worst : list of list of list
        For each axis (slice shown, wrong voxels, right voxels), most wrong first.
    """

    shape: tuple[int, int, int]
    step: tuple[int, int, int]
    columns: int
    image: str
    prediction: str
    truth: str
    worst: list[list[list[int]]]


def pack(volume: ReportVolume, legend: Legend, most: int = MOST_VOXELS) -> Montage:
    """Return a volume's pictures with at most `most` voxels.

    Parameters
    ----------
    volume : ReportVolume
    legend : Legend
        The codes of the labels.
    most : int
        Largest number of voxels to show.
    """
    step = _step(volume.prediction.shape, most)
    worst = worst_slices(agreement(volume, ids=legend.ids), step)
    full = volume.prediction.shape
    z, y, x = (-(-size // by) for size, by in zip(full, step, strict=True))
    columns = min(z, max(1, round((z * y / x) ** 0.5)))
    image = ""
    if volume.image is not None:
        grey = _grey(volume.image.array, step)
        image = _address(_tiled(grey, columns), "JPEG", quality=72)
    return Montage(
        (z, y, x),
        step,
        columns,
        image,
        _codes(volume.prediction, legend, step, columns),
        _codes(volume.truth, legend, step, columns),
        worst,
    )


def agreement(volume: ReportVolume, *, ids: bool) -> NDArray[np.uint8]:
    """Return whether each voxel is right or wrong, and how.

    Returns
    -------
    ndarray of uint8, shape (Z, Y, X)
        0 background or not annotated, 1 right, 2 predicted but not true, 3 true but
        not predicted, 4 of another class. Without a truth, 1 is the prediction.
    """
    predicted = volume.prediction.read()
    codes: NDArray[np.uint8] = (predicted > 0).astype(np.uint8)
    if volume.truth is None:
        return codes
    truth = volume.truth.read()
    codes[(predicted > 0) & (truth == 0)] = EXTRA
    codes[(predicted == 0) & (truth > 0)] = MISSED
    if not ids:
        codes[(predicted > 0) & (truth > 0) & (predicted != truth)] = WRONG_CLASS
        codes[truth == IGNORE] = 0
    return codes


def worst_slices(
    codes: NDArray[np.uint8], step: tuple[int, int, int], most: int = 8
) -> list[list[list[int]]]:
    """Return, per axis, the slices shown with the most wrong voxels.

    A shown slice stands for the slices up to the next one; all their voxels are
    counted.
    """
    wrong, right = codes >= EXTRA, codes == TRUE
    found = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        starts = np.arange(0, codes.shape[axis], step[axis])
        bad = np.add.reduceat(np.count_nonzero(wrong, axis=others), starts)
        good = np.add.reduceat(np.count_nonzero(right, axis=others), starts)
        found.append(
            [[at, int(bad[at]), int(good[at])] for at in _apart(bad, most) if bad[at]]
        )
    return found


def _apart(wrong: NDArray[np.intp], most: int) -> list[int]:
    """Return the worst slices, without direct neighbours, which look alike."""
    gap = max(1, len(wrong) // 40)
    kept: list[int] = []
    for at in np.argsort(-wrong, kind="stable").tolist():
        if len(kept) < most and all(abs(at - other) > gap for other in kept):
            kept.append(at)
    return kept


def _step(shape: tuple[int, int, int], most: int) -> tuple[int, int, int]:
    step = [max(1, -(-size // LONGEST_SIDE)) for size in shape]
    while (
        np.prod([-(-size // by) for size, by in zip(shape, step, strict=True)]) > most
    ):
        sides = [size / by for size, by in zip(shape, step, strict=True)]
        step[int(np.argmax(sides))] += 1
    return (step[0], step[1], step[2])


def _codes(
    labels: Volume | None, legend: Legend, step: tuple[int, int, int], columns: int
) -> str:
    """Return the address of a picture of label codes; empty without labels."""
    if labels is None:
        return ""
    shown = legend.codes(labels.read()[:: step[0], :: step[1], :: step[2]])
    spread = shown * np.uint8(legend.step)
    return _address(_tiled(spread, columns), "PNG", optimize=True)


def _grey(array: ArrayLike, step: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return an image as grey values between its 0.5 and 99.5 per cent quantiles."""
    depth = array.shape[0]
    rows = [
        np.asarray(array[z : z + 1, :, :])[0, :: step[1], :: step[2]]
        for z in range(0, depth, step[0])
    ]
    values = np.stack(rows).astype(np.float32)
    low, high = np.nanquantile(values, [0.005, 0.995])
    scaled = (values - low) / max(float(high - low), 1e-12)
    grey: NDArray[np.uint8] = (
        (np.clip(np.nan_to_num(scaled), 0, 1) * 255).round().astype(np.uint8)
    )
    return grey


def _tiled(array: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    depth, height, width = array.shape
    rows = -(-depth // columns)
    padded = np.zeros((rows * columns, height, width), np.uint8)
    padded[:depth] = array
    tiled = padded.reshape(rows, columns, height, width).swapaxes(1, 2)
    return tiled.reshape(rows * height, columns * width)


def _address(picture: NDArray[np.uint8], kind: str, **options: Any) -> str:  # noqa: ANN401
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, **options)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"
