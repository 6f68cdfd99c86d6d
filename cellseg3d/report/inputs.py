"""Open and check the volumes of a report and their truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import AxisError, LabelError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist, case_stem
from cellseg3d.datasets.labels import class_labels
from cellseg3d.io.check import open_input
from cellseg3d.io.labels import MOST_CLASSES
from cellseg3d.io.layout import OBJECT_IDS
from cellseg3d.report.folders import Located
from cellseg3d.scoring.evaluate import case_truth, open_labels
from cellseg3d.scoring.meaning import (
    channels_of,
    marked_ids,
    meaning_of,
    models_of,
    segmentation_of,
)
from cellseg3d.scoring.one_volume import renamed
from cellseg3d.scoring.pairs import stem_of_file
from cellseg3d.scoring.probs import find_probs
from cellseg3d.scoring.same_grid import common_spacing


@dataclass(frozen=True)
class ReportVolume:
    """One predicted volume and the files that belong to it.

    Parameters
    ----------
    name : str
    prediction : Volume
        Labels or object ids.
    truth, image : Volume or None
        The truth and the image, of the same shape. Of an image of several channels it
        is the one to draw.
    probs : mapping of str to Volume
        Probability of each class by its name; ``""`` stands for all values above 0.
    spacing : Spacing or None
        The first spacing that one of the files states.
    paths : dict of str to str
        Path of each file: ``"prediction"``, ``"truth"``, ``"image"``, ``"probs"`` or
        ``"probs CLASS"``.
    models : sequence of mapping
        What the record beside the prediction says of the models that made it.
    expected : mapping
        What the record says of the Dice that is expected; empty if nothing.
    """

    name: str
    prediction: Volume
    truth: Volume | None
    image: Volume | None
    probs: Mapping[str, Volume]
    spacing: Spacing | None
    paths: dict[str, str]
    models: Sequence[Mapping[str, Any]] = ()
    expected: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that the record states, background first."""
        stated = self.models[0].get("classes") if self.models else None
        return tuple(map(str, stated)) if isinstance(stated, list) else ()

    @property
    def edges(self) -> tuple[float, float, float]:
        """Voxel edges (z, y, x) in um, or 1 voxel each when unknown."""
        return self.spacing.zyx if self.spacing else (1.0, 1.0, 1.0)

    @property
    def unit(self) -> str:
        """The unit of `edges`."""
        return "um" if self.spacing else "voxels"

    @property
    def flat(self) -> bool:
        """Whether it is a 2D image: one slice."""
        return self.prediction.shape[0] == 1

    @property
    def voxel_size(self) -> float:
        """The size of a voxel in `size_unit`."""
        z, y, x = self.edges
        return y * x if self.flat else z * y * x

    @property
    def size_unit(self) -> str:
        """The unit of sizes: of areas for a 2D image, of volumes otherwise."""
        if self.spacing is None:
            return "pixels" if self.flat else "voxels"
        return "um^2" if self.flat else "um^3"


def open_volumes(
    located: Sequence[Located],
    *,
    datalist: Datalist | None = None,
    classes: Sequence[str] = (),
    channel: int | str | None = None,
    spacing: Spacing | None = None,
    truth_map: Mapping[int, int] | None = None,
    ids: bool = False,
) -> list[ReportVolume]:
    """Open predictions and the files that belong to them.

    Parameters
    ----------
    located : sequence of Located
    datalist : Datalist, optional
        Datalist whose label map gives the classes of the truth's values.
    classes : sequence of str
        Class names by value, for the names of probability files.
    channel : int or str, optional
        The channel of the images to draw, if they have several. By default it is the
        first that the network sees: of those of the datalist, or else of those that
        the record of the prediction names.
    spacing : Spacing, optional
        Voxel edges that win over those of the files.
    truth_map : mapping of int to int, optional
        The class of each value of the truth; wins over datalist and record.
    ids : bool
        Whether the values of predictions and truths are known to be object ids.

    Raises
    ------
    InputError
        If a file cannot be read, or shapes differ.
    """
    opened = []
    for each in located:
        meant = None if truth_map is not None else datalist
        truth = _open_truth(each, meant, spacing, ids=ids)
        volume = _open(each, truth, classes, channel, spacing)
        if truth_map is not None:
            volume = _renamed(volume, truth_map)
        elif datalist is None and not ids:
            volume = _understood(volume)
        opened.append(volume)
    return opened


def _understood(volume: ReportVolume) -> ReportVolume:
    """Return a volume whose truth is read as its prediction's model learned it."""
    if volume.truth is None:
        return volume
    known = meaning_of(volume.paths["prediction"])
    if known is None:
        return volume
    values = np.unique(volume.truth.read()).tolist()
    return _renamed(volume, known.truth_map(values, volume.truth.name)[0])


def _renamed(volume: ReportVolume, names: Mapping[int, int] | None) -> ReportVolume:
    if volume.truth is None:
        return volume
    truth = volume.truth.with_array(renamed(volume.truth, names))
    return replace(volume, truth=truth)


def _open(
    located: Located,
    truth: Volume | None,
    classes: Sequence[str],
    channel: int | str | None,
    given: Spacing | None,
) -> ReportVolume:
    volume = open_labels(located.prediction, given)
    image = _open_image(located, channel, given) if located.image else None
    probs = {}
    paths = {
        "prediction": located.prediction,
        "truth": located.truth,
        "image": located.image,
    }
    if located.probs:
        stem = stem_of_file(located.prediction)
        files = find_probs(located.probs, stem, classes)
        probs = {name: open_input(file, spacing=given) for name, file in files.items()}
        paths |= {f"probs {name}".strip(): file for name, file in files.items()}
    spacing = given or volume.spacing
    for other in (truth, image, *probs.values()):
        if other is not None:
            spacing = spacing or common_spacing(volume, other, given)
    return ReportVolume(
        case_stem(located.prediction),
        volume,
        truth,
        image,
        probs,
        spacing,
        {key: path for key, path in paths.items() if path},
        tuple(models_of(located.prediction)),
        _expected(located.prediction),
    )


def _expected(prediction: str) -> Mapping[str, Any]:
    """Return what Dice a record expects; objects are not what it was expected of."""
    if case_stem(prediction).endswith("_objects"):
        return {}
    found = segmentation_of(prediction).get("expected_dice", {})
    return found if isinstance(found, Mapping) else {}


def _open_image(
    located: Located, channel: int | str | None, given: Spacing | None
) -> Volume:
    """Return the image, or of several channels the one to draw."""
    place = str(located.image)
    if channel is not None:
        return open_input(place, spacing=given, channel=channel)
    case = located.case or Case("", place, None, "")
    try:
        opening = case.opening
        opening["spacing"] = given or case.spacing
        image = open_input(place, **opening)
    except AxisError:
        known = channels_of(located.prediction)
        if not known or (case.channel, case.channels) != (None, None):
            raise
        image = open_input(place, spacing=given, channel=known[0])
    return image.channel(0)


def _open_truth(
    located: Located, datalist: Datalist | None, given: Spacing | None, *, ids: bool
) -> Volume | None:
    """Return the truth with its classes in a datalist, or as ids of objects."""
    if located.truth is None:
        return None
    case = located.case
    of_objects = datalist is not None and datalist.labels != "classes"
    if datalist is None or case is None or located.truth != case.label:
        truth = open_labels(located.truth, given)
        if datalist is not None and not (ids or of_objects):
            classes = class_labels(truth.read(), datalist, truth.name)
            truth = truth.with_array(classes)
    else:
        truth = case_truth(case, datalist, ids=ids or of_objects)
        truth = replace(truth, spacing=given or truth.spacing)
    if not of_objects:
        return truth
    return replace(truth, provenance={**truth.provenance, OBJECT_IDS: True})


def settle_kind(
    volumes: Sequence[ReportVolume], *, ids: bool | None
) -> tuple[list[ReportVolume], bool]:
    """Return the volumes and whether their values are object ids rather than classes.

    Unless the caller decides, values are taken for ids when the file of a prediction
    says so, or holds more than 16 values, or one above 254. A prediction of foreground
    only is compared with the foreground of a truth of ids.
    """
    if ids is None:
        ids = any(_holds_ids(volume.prediction) for volume in volumes)
    if ids:
        return list(volumes), True
    return [_flattened(volume) for volume in volumes], False


def _flattened(volume: ReportVolume) -> ReportVolume:
    truth = volume.truth
    if truth is None or not _holds_ids(truth):
        return volume
    if volume.prediction.read().max(initial=0) > 1:
        message = (
            f"{truth.name}: holds object ids, but {volume.prediction.name} holds "
            "classes; give `datalist` with a label map, or `objects` if it holds ids"
        )
        raise LabelError(message)
    foreground = (truth.read() > 0).astype(np.uint8)
    return replace(volume, truth=truth.with_array(foreground))


def _holds_ids(labels: Volume) -> bool:
    """Return whether labels are ids of objects, by the file's word or their number."""
    if marked_ids(labels):
        return True
    values = np.unique(labels.read())
    return len(values) - (IGNORE in values) > MOST_CLASSES or bool(
        values.max(initial=0) > IGNORE
    )


def check_volume(volume: ReportVolume) -> dict[str, Any]:
    """Return facts and problems of a volume that a reader should know.

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
    """Return the data type of image and prediction, and the channel that is drawn."""
    pairs = (("image", volume.image), ("prediction", volume.prediction))
    found = []
    for name, each in pairs:
        if each is not None:
            called = f" ({each.channel_names[0]})" if each.channel_names else ""
            found.append(f"{name} {each.dtype}{called}")
    return ", ".join(found)


def _sample(volume: Volume, most: int = 1 << 24) -> NDArray[Any]:
    """Return all voxels, or those of evenly spaced slices of a large volume."""
    depth = volume.shape[0]
    step = max(1, -(-volume.shape[0] * volume.shape[1] * volume.shape[2] // most))
    if step == 1:
        return volume.read()
    rows = range(0, depth, step)
    return np.stack([np.asarray(volume.array[z : z + 1, :, :])[0] for z in rows])
