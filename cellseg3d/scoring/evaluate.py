"""Score label files against the truth, with the scores of `cellseg3d.metrics`."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cellseg3d.core.errors import InputError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist, split_inner
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.volumes import case_classes, read_case_label
from cellseg3d.io.check import open_input
from cellseg3d.io.fingerprint import unchanged
from cellseg3d.io.labels import doubt_labels
from cellseg3d.io.registry import read_labels
from cellseg3d.metrics.temperature import known_errors
from cellseg3d.scoring.meaning import marked_ids, meaning_of, models_of
from cellseg3d.scoring.one_volume import (
    FOREGROUND,
    ScoredVolume,
    ScoreOptions,
    renamed,
    score_volume,
)
from cellseg3d.scoring.pairs import (
    Pairing,
    ScorePair,
    is_datalist,
    pair_datalist,
    pair_paths,
    stem_of_file,
)
from cellseg3d.scoring.probs import class_value, find_probs, score_probs

__all__ = ["Evaluation", "ScoreOptions", "ScoredVolume", "evaluate_files"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """The scores of every volume, and the files without a partner.

    Parameters
    ----------
    pairs : tuple of ScorePair
        Names, files and specimens of the volumes.
    scored : tuple of ScoredVolume
        The scores of each volume, in the same order.
    unmatched_predictions, unmatched_truths : tuple of str
        Files without a partner, which were not scored.
    """

    pairs: tuple[ScorePair, ...]
    scored: tuple[ScoredVolume, ...]
    unmatched_predictions: tuple[str, ...] = ()
    unmatched_truths: tuple[str, ...] = ()


def evaluate_files(
    prediction: str,
    truth: str | None = None,
    *,
    datalist: str | None = None,
    options: ScoreOptions | None = None,
) -> Evaluation:
    """Score a prediction against its truth, or every prediction of a folder.

    Parameters
    ----------
    prediction : str
        A label file, or a folder of them.
    truth : str, optional
        A label file, a folder that pairs by stem, or a datalist.
    datalist : str, optional
        A datalist that gives class names, and the truth when `truth` is None.
    options : ScoreOptions, optional
        What to score, and what the values mean.

    Raises
    ------
    InputError
        If files are missing, have no partner, or cannot be scored; one message names
        every faulty volume.

    Notes
    -----
    If `datalist` is None, class names and label map come from the record that `predict`
    wrote beside a prediction.
    """
    chosen = options or ScoreOptions()
    if truth is not None and is_datalist(truth):
        truth, datalist = None, truth
    cases = None if datalist is None else load_datalist(datalist)
    if truth is not None:
        pairing, source = (
            pair_paths(prediction, truth, ids=chosen.ids, folders=chosen.folders),
            None,
        )
    elif cases is not None:
        pairing, source = (
            pair_datalist(prediction, cases, ids=chosen.ids, folders=chosen.folders),
            cases,
        )
    else:
        message = f"{prediction}: has no truth to compare; give TRUTH or `datalist`"
        raise InputError(message)
    if cases is not None and not chosen.classes:
        chosen = replace(chosen, classes=cases.classes)
    return _score_pairs(pairing, chosen, source)


def open_labels(location: str, spacing: Spacing | None = None) -> Volume:
    """Open a label file, whose voxels are read on demand.

    A file that stores whole numbers as floats is read at once and checked.

    Parameters
    ----------
    location : str
        The file; ``::inner`` names a dataset in it.
    spacing : Spacing, optional
        Voxel edges, instead of those in the file.

    Raises
    ------
    InputError
        If the file is damaged, or its values are not whole numbers.
    """
    file, inner = split_inner(location)
    volume = open_input(file, inner=inner, spacing=spacing, labels=True)
    if volume.dtype.kind not in "iub":
        volume = read_labels(file, inner=inner, spacing=spacing)
    if doubt := doubt_labels(volume):
        logger.warning("%s: %s", location, doubt)
    return volume


def _score_pairs(
    pairing: Pairing, options: ScoreOptions, cases: Datalist | None
) -> Evaluation:
    scored, faults = [], []
    for pair in pairing.pairs:
        try:
            with unchanged([pair.prediction, pair.truth]):
                scored.append(_score_pair(pair, options, cases))
        except InputError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        listed = "; ".join(str(fault) for fault in faults)
        raise InputError(f"{len(faults)} volumes cannot be scored: {listed}")
    absent = frozenset.intersection(*(each.unused for each in scored))
    if absent:
        notes = (*scored[0].notes, *_notes_of_absent(absent))
        scored[0] = replace(scored[0], notes=notes)
    return Evaluation(
        pairing.pairs,
        tuple(scored),
        pairing.unmatched_predictions,
        pairing.unmatched_truths,
    )


def _notes_of_absent(absent: frozenset[tuple[str, int]]) -> Iterator[str]:
    """Yield a sentence for each map with values that no volume holds."""
    for word in sorted({word for word, _ in absent}):
        values = ", ".join(str(value) for each, value in sorted(absent) if each == word)
        side = "truth" if word == "truth_map" else "prediction"
        yield f"no voxel of the {side} holds {values}, which `{word}` renames"


def _score_pair(
    pair: ScorePair, options: ScoreOptions, cases: Datalist | None
) -> ScoredVolume:
    case = _case_of(pair, cases)
    if case is not None:
        options = replace(options, spacing=options.spacing or case.spacing)
    prediction = open_labels(pair.prediction, options.spacing)
    only: tuple[str, ...] | None = None
    note = ""
    if cases is None or case is None:
        truth = open_labels(pair.truth, options.spacing)
        if not (options.ids or options.told):
            note = marked_ids(prediction, truth)
            options = replace(options, ids=bool(note))
        known = None if options.ids else meaning_of(pair.prediction)
        if known is not None:
            names = options.classes or known.classes
            options = replace(options, meaning=known, classes=names)
    else:
        truth = case_truth(case, cases, ids=options.ids)
        only = case.annotated
    scored = score_volume(prediction, truth, options, only)
    if note:
        scored = replace(scored, notes=(*scored.notes, note))
    return (
        scored if options.probs is None else _with_probs(pair, scored, truth, options)
    )


def _case_of(pair: ScorePair, cases: Datalist | None) -> Case | None:
    """Return the case of a datalist that a pair belongs to; None without a datalist."""
    if cases is None:
        return None
    return next(case for case in cases.cases if case.name == pair.name)


def _with_probs(
    pair: ScorePair, scored: ScoredVolume, truth: Volume, options: ScoreOptions
) -> ScoredVolume:
    """Return the scores and those of the probabilities, class by class."""
    labels = renamed(truth, scored.truth_map)
    if options.ids:
        labels = (labels > 0).astype(np.uint8)
    classes, curves = dict(scored.classes), {}
    stem = stem_of_file(pair.prediction)
    for name, file in find_probs(options.probs or "", stem, options.classes).items():
        found = score_probs(
            open_input(file), labels, class_value(name, options.classes)
        )
        shown = name or (next(iter(classes)) if len(classes) == 1 else FOREGROUND)
        classes[shown] = {**classes.get(shown, {}), **found.scores}
        curves[shown] = found.curves
    known = [model.get("confidence") for model in models_of(pair.prediction)]
    heats = [f"temperature: {each}" for one in known for each in known_errors(one)]
    notes = (*scored.notes, *heats)
    return replace(scored, classes=classes, curves=curves, notes=notes)


def case_truth(case: Case, cases: Datalist, *, ids: bool) -> Volume:
    """Return a case's truth as class indices, or as ids if ids are scored."""
    raw = read_case_label(case, cases)
    if ids:
        return raw
    return raw.with_array(case_classes(raw.read(), cases, case, raw.name))
