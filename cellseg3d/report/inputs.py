"""What a report is made from: volumes with their truth, opened and checked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.data.cases import Datalist, case_stem, split_inner
from cellseg3d.data.labels import class_labels
from cellseg3d.data.same_grid import common_spacing
from cellseg3d.data.scoring import open_labels
from cellseg3d.io.registry import open_volume

IGNORE = 255
MOST_CLASSES = 16


@dataclass(frozen=True)
class ReportVolume:
    """One predicted volume, and what else is known of it.

    Parameters
    ----------
    name : str
    prediction : Volume
        Labels or object ids.
    truth, image, probs : Volume or None
        On the same grid; `probs` of the foreground, in [0, 1].
    spacing : Spacing or None
        The first that any of them states.
    paths : dict of str to str
        Where each came from: ``"prediction"``, ``"truth"``, ``"image"``, ``"probs"``.
    """

    name: str
    prediction: Volume
    truth: Volume | None
    image: Volume | None
    probs: Volume | None
    spacing: Spacing | None
    paths: dict[str, str]

    @property
    def edges(self) -> tuple[float, float, float]:
        """Voxel edges (z, y, x) in um, or 1 voxel each when unknown."""
        return self.spacing.zyx if self.spacing else (1.0, 1.0, 1.0)

    @property
    def unit(self) -> str:
        """The unit of `edges`."""
        return "um" if self.spacing else "voxels"


def open_volumes(
    predictions: Sequence[str],
    truths: Sequence[str] = (),
    images: Sequence[str] = (),
    probs: Sequence[str] = (),
    *,
    datalist: Datalist | None = None,
) -> list[ReportVolume]:
    """Open predictions and what belongs to each, in the order given.

    Parameters
    ----------
    predictions, truths, images, probs : sequence of str
        Paths, with ``::inner`` where needed. Each of the last three is empty, or has
        one path a prediction.
    datalist : Datalist, optional
        Whose label map says what classes the truth's values mean.

    Raises
    ------
    ConfigError
        If the numbers of files differ.
    InputError
        If a file cannot be read, or shapes differ.
    """
    for option, paths in (("truth", truths), ("image", images), ("probs", probs)):
        if paths and len(paths) != len(predictions):
            message = (
                f"{len(predictions)} --prediction but {len(paths)} --{option}; give "
                f"one --{option} for each prediction, in the same order"
            )
            raise ConfigError(message)
    rows = zip_longest(predictions, truths, images, probs)
    opened = [_open(*row) for row in rows]
    if datalist is None or datalist.labels != "classes":
        return opened
    return [_mapped(volume, datalist) for volume in opened]


def _mapped(volume: ReportVolume, datalist: Datalist) -> ReportVolume:
    truth = volume.truth
    if truth is None:
        return volume
    classes = class_labels(truth.read(), datalist, truth.name)
    return replace(volume, truth=truth.with_array(classes))


def _open(
    prediction: str, truth: str | None, image: str | None, probs: str | None
) -> ReportVolume:
    opened = {
        "prediction": open_labels(prediction),
        "truth": open_labels(truth) if truth else None,
        "image": _open_values(image) if image else None,
        "probs": _open_values(probs) if probs else None,
    }
    volume = opened["prediction"]
    if volume is None:
        raise LabelError(f"{prediction}: holds no labels")
    spacing = volume.spacing
    for other in opened.values():
        if other is not None:
            spacing = spacing or common_spacing(volume, other, None)
    paths = {"prediction": prediction, "truth": truth, "image": image, "probs": probs}
    return ReportVolume(
        case_stem(prediction),
        volume,
        opened["truth"],
        opened["image"],
        opened["probs"],
        spacing,
        {key: path for key, path in paths.items() if path},
    )


def _open_values(path: str) -> Volume:
    file, inner = split_inner(path)
    return open_volume(file, inner=inner)


def settle_kind(
    volumes: Sequence[ReportVolume], *, ids: bool | None
) -> tuple[list[ReportVolume], bool]:
    """Return the volumes and whether their values are object ids rather than classes.

    Unless told, they are ids when some prediction holds more than 16 values, or one
    above 254: a guess, which the page states. A prediction of foreground alone is
    scored against a truth of ids as foreground against foreground.
    """
    if ids is None:
        ids = any(_many_values(volume.prediction) for volume in volumes)
    if ids:
        return list(volumes), True
    return [_flattened(volume) for volume in volumes], False


def _flattened(volume: ReportVolume) -> ReportVolume:
    truth = volume.truth
    if truth is None or not _many_values(truth):
        return volume
    if volume.prediction.read().max(initial=0) > 1:
        message = (
            f"{truth.name}: holds object ids, but {volume.prediction.name} holds "
            "classes; give --datalist with a label map, or --objects if it holds ids"
        )
        raise LabelError(message)
    foreground = (truth.read() > 0).astype(np.uint8)
    return replace(volume, truth=truth.with_array(foreground))


def _many_values(labels: Volume) -> bool:
    values = np.unique(labels.read())
    return len(values) - (IGNORE in values) > MOST_CLASSES or bool(
        values.max(initial=0) > IGNORE
    )


def check_volume(volume: ReportVolume) -> dict[str, Any]:
    """Return what a reader should know of a volume before believing its scores.

    Returns
    -------
    dict
        ``name``, ``shape``, ``spacing``, ``types``, ``intensity`` (low, median and
        high of the image), ``labels`` (shares), ``problems`` (sentences).
    """
    problems = []
    if volume.spacing is None:
        problems.append("spacing unknown: lengths are in voxels")
    intensity: dict[str, float] = {}
    if volume.image is not None:
        values = _sample(volume.image)
        bad = int((~np.isfinite(values)).sum())
        if bad:
            problems.append(f"image: {bad} of {values.size} sampled voxels not finite")
        finite = values[np.isfinite(values)]
        if finite.size and np.ptp(finite) == 0:
            problems.append(f"image is constant ({finite.flat[0]:g})")
        if finite.size:
            low, middle, high = np.quantile(
                finite.astype(np.float64), [0.01, 0.5, 0.99]
            )
            intensity = {"low": low, "median": middle, "high": high}
    labels = {}
    for side, labelled in (("prediction", volume.prediction), ("truth", volume.truth)):
        if labelled is None:
            continue
        values = _sample(labelled)
        labels[side] = float((values > 0).mean())
        if not (values > 0).any():
            problems.append(f"{side} is empty")
    return {
        "name": volume.name,
        "shape": volume.prediction.shape,
        "spacing": str(volume.spacing) if volume.spacing else "unknown",
        "types": _types(volume),
        "intensity": intensity,
        "labels": labels,
        "problems": problems,
    }


def _types(volume: ReportVolume) -> str:
    pairs = (("image", volume.image), ("prediction", volume.prediction))
    return ", ".join(f"{name} {each.dtype}" for name, each in pairs if each is not None)


def _sample(volume: Volume, most: int = 1 << 24) -> NDArray[Any]:
    """Return all voxels, or those of evenly spread slices of a large volume."""
    depth = volume.shape[0]
    step = max(1, -(-volume.shape[0] * volume.shape[1] * volume.shape[2] // most))
    if step == 1:
        return volume.read()
    rows = range(0, depth, step)
    return np.stack([np.asarray(volume.array[z : z + 1, :, :])[0] for z in rows])
