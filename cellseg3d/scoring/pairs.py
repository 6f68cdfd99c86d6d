"""Find the truth of each prediction by its stem; report files without a partner."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellseg3d.core.errors import InputError
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Case, Datalist, split_inner
from cellseg3d.io.listing import is_folder_of_volumes
from cellseg3d.io.names import role_of, stem_of
from cellseg3d.io.registry import list_volumes

_DATALISTS = (".json", ".yaml", ".yml")


@dataclass(frozen=True)
class ScorePair:
    """A prediction and its truth.

    Parameters
    ----------
    name : str
        Name of the volume in tables.
    prediction, truth : str
        Paths, with ``::inner`` where needed.
    group : str
        The specimen, which is the unit of statistics.
    spacing : Spacing or None
        Voxel edges from a datalist; None if it gives none.
    annotated : tuple of str or None
        Classes that the truth annotates; None means all classes.
    """

    name: str
    prediction: str
    truth: str
    group: str
    spacing: Spacing | None = None
    annotated: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Pairing:
    """The pairs, and the files of both sides without a partner."""

    pairs: tuple[ScorePair, ...]
    unmatched_predictions: tuple[str, ...] = ()
    unmatched_truths: tuple[str, ...] = ()


def pair_paths(
    prediction: str, truth: str, *, ids: bool = False, folders: str = "auto"
) -> Pairing:
    """Pair two files, or the files of two folders by stem.

    Endings such as ``_labels`` or ``_image`` do not belong to the stem, so
    ``cell07_image_labels.tif`` is a prediction for ``cell07_label.tif``. If a folder
    holds class labels and object ids of one stem, `ids` decides which are taken.
    Probabilities and uncertainty of `predict` are left out.

    Raises
    ------
    InputError
        If a path does not exist, if one is a file and the other a folder of several
        volumes, or if no stem occurs on both sides.
    """
    both = [Path(each.partition("::")[0]) for each in (prediction, truth)]
    for path in both:
        if not path.exists():
            message = f"{path}: does not exist; give two files or two folders"
            raise InputError(message)
    if not all(is_folder_of_volumes(path, folders) for path in both):
        name = stem_of_file(prediction)
        return Pairing((ScorePair(name, prediction, truth, group=name),))
    predictions, truths = (labels_by_stem(path, ids=ids) for path in both)
    return _matched(predictions, truths, where=f"{prediction} and {truth}")


def pair_datalist(
    prediction: str, datalist: Datalist, *, ids: bool = False, folders: str = "auto"
) -> Pairing:
    """Pair a prediction or a folder of them with the labelled cases of a datalist.

    Raises
    ------
    InputError
        If the prediction does not exist or belongs to no labelled case.
    """
    path = Path(prediction.partition("::")[0])
    if not path.exists():
        message = f"{path}: does not exist; give a label file or a folder of them"
        raise InputError(message)
    if is_folder_of_volumes(path, folders):
        predictions: Mapping[str, str] = labels_by_stem(path, ids=ids)
    else:
        predictions = {stem_of_file(prediction): prediction}
    cases = {case.name: case for case in datalist.cases if case.label is not None}
    stems = cases_by_stem(cases.values())
    named = {
        stems[stem].name if stem in stems else stem: file
        for stem, file in predictions.items()
    }
    truths = {name: str(case.label) for name, case in cases.items()}
    pairing = _matched(named, truths, where=f"{prediction} and {datalist.where}")
    pairs = tuple(
        ScorePair(
            pair.name,
            pair.prediction,
            pair.truth,
            group=cases[pair.name].group,
            spacing=cases[pair.name].spacing,
            annotated=cases[pair.name].annotated,
        )
        for pair in pairing.pairs
    )
    rest = pairing.unmatched_truths if is_folder_of_volumes(path, folders) else ()
    return Pairing(pairs, pairing.unmatched_predictions, rest)


def cases_by_stem(cases: Iterable[Case]) -> dict[str, Case]:
    """Return the case that each stem belongs to: its name, or the stem of its image.

    The name of a case wins over the image of another one.
    """
    known = list(cases)
    images = {stem_of_file(case.image): case for case in known}
    return images | {case.name: case for case in known}


def is_datalist(path: str) -> bool:
    """Return whether a path names a datalist and not a volume."""
    return path.lower().endswith(_DATALISTS)


def _matched(
    predictions: Mapping[str, str], truths: Mapping[str, str], where: str
) -> Pairing:
    names = sorted(predictions.keys() & truths.keys())
    if not names:
        message = (
            f"{where}: no stem is in both; found {_some(predictions)} and "
            f"{_some(truths)}; give matching files the same stem"
        )
        raise InputError(message)
    return Pairing(
        tuple(
            ScorePair(name, predictions[name], truths[name], group=name)
            for name in names
        ),
        tuple(sorted(predictions[name] for name in predictions.keys() - truths.keys())),
        tuple(sorted(truths[name] for name in truths.keys() - predictions.keys())),
    )


def labels_by_stem(folder: Path, *, ids: bool) -> dict[str, str]:
    """Return the label files of a folder by stem; refuse two with the same stem."""
    every = [str(path) for path in list_volumes(folder)]
    beside = ("probability", "uncertainty")
    files = [file for file in every if role_of(file) not in beside]
    if not files:
        message = f"{folder}: holds no volumes" + " of labels" * bool(every)
        raise InputError(message)
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(stem_of_file(file), []).append(file)
    return {stem: _only(stem, same, ids=ids) for stem, same in found.items()}


def _only(stem: str, files: Sequence[str], *, ids: bool) -> str:
    """Return the only label file among the files of a stem; images are left out."""
    labels = [file for file in files if role_of(file) != "image"]
    kept = labels or list(files)
    wanted = [file for file in kept if (role_of(file) == "objects") == ids]
    if len(kept) > 1 and len(wanted) == 1:
        return wanted[0]
    if len(kept) > 1:
        listed = ", ".join(Path(file).name for file in kept)
        message = (
            f"{kept[0]}: {len(kept)} files have the stem {stem!r} ({listed}); keep one"
        )
        raise InputError(message)
    return kept[0]


def stem_of_file(path: str) -> str:
    """Return the stem of a file's volume."""
    return stem_of(split_inner(path)[0])


def _some(files: Mapping[str, str]) -> str:
    names = sorted(Path(file).name for file in files.values())
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
