"""Folds in which no specimen sits on both sides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.cases import Case, Datalist


@dataclass(frozen=True)
class Fold:
    """Which cases train, which validate, and what a report has to say about it.

    Parameters
    ----------
    training, validation, test : tuple of Case
        No case is in two of them. `test` holds what the datalist keeps for testing.
    warnings : tuple of str
        Sentences that every report on this fold repeats.
    """

    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    warnings: tuple[str, ...] = ()
    test: tuple[Case, ...] = ()


def leave_one_group_out(datalist: Datalist) -> list[Fold]:
    """Return one fold per group, in which that group validates.

    With ``allow_shared_groups`` every case is left out by itself, and each fold says
    so. Cases without a label take no part.

    Raises
    ------
    ConfigError
        If there are fewer than two groups.
    """
    units = _units(datalist)
    if len(units) < 2:
        raise ConfigError(_one_group(datalist))
    return [_fold(datalist, units, [name]) for name in units]


def grouped_folds(datalist: Datalist, k: int, seed: int = 0) -> list[Fold]:
    """Return `k` folds; groups are shuffled by `seed` and dealt out evenly.

    Larger groups are dealt first, so that folds hold about as many cases each.

    Raises
    ------
    ConfigError
        If `k` is below 2 or above the number of groups.
    """
    units = _units(datalist)
    if not 2 <= k <= len(units):
        message = (
            f"{datalist.where}: {k} folds of {len(units)} groups; expected 2 to "
            f"{len(units)} folds (a group stays whole)"
        )
        raise ConfigError(message)
    names = list(units)
    np.random.default_rng(seed).shuffle(names)
    names.sort(key=lambda name: -len(units[name]))
    hands: list[list[str]] = [[] for _ in range(k)]
    for name in names:
        least = min(hands, key=lambda hand: sum(len(units[n]) for n in hand))
        least.append(name)
    return [_fold(datalist, units, hand) for hand in hands]


def training_fold(
    datalist: Datalist,
    fold: int | str | None = 0,
    *,
    validation: str | Sequence[str] = "auto",
    folds: int | None = None,
    seed: int = 0,
) -> Fold:
    """Return the cases to train and to validate on.

    Parameters
    ----------
    datalist : Datalist
    fold : int, str or None
        Which fold, by number or by the group that validates; None trains on all.
    validation : "auto", "none", or sequence of str
        ``"auto"`` takes the cases that the datalist marks ``"validation"``, else the
        fold; ``"none"`` trains on all; names (of cases or groups) validate on those.
    folds : int, optional
        Grouped k-fold; leave one group out when None.
    seed : int
        Of the k-fold's shuffle.

    Returns
    -------
    Fold
        Test cases of the datalist are in neither side. With one group only there is
        no validation, and a warning.

    Raises
    ------
    ConfigError
        If the fold does not exist, nothing is left to train on, or a group would
        sit on both sides without ``allow_shared_groups``.
    """
    if isinstance(validation, str) and validation not in ("auto", "none"):
        validation = [validation]
    free = [case for case in _labelled(datalist) if case.split is None]
    fixed = [case for case in _labelled(datalist) if case.split == "validation"]
    if not isinstance(validation, str):
        chosen = datalist.select(validation)
        return _sides(datalist, [case for case in chosen if case.label is not None])
    if validation == "none":
        return _sides(datalist, [], ["no validation: every case trains, as asked"])
    if fixed or fold is None or not free:
        note = [] if fixed else ["no validation: the datalist names no validation case"]
        return _sides(datalist, fixed, note)
    if len(_units(datalist)) < 2:
        return _sides(datalist, [], [f"no validation: {_one_group(datalist)}"])
    every = (
        leave_one_group_out(datalist)
        if folds is None
        else grouped_folds(datalist, folds, seed)
    )
    return every[_number(datalist, fold, len(every), folds)]


def check_duplicates(
    fold: Fold, hashes: Mapping[str, str], *, allow: bool = False
) -> Fold:
    """Return the fold, warned, after comparing the content of its cases.

    Parameters
    ----------
    fold : Fold
    hashes : mapping of str to str
        Content hash of each case's image, by case name.
    allow : bool
        Warn instead of refusing when one content sits on both sides.

    Raises
    ------
    ConfigError
        If a volume trains and validates under two names.
    """
    notes = []
    first: dict[str, tuple[str, Case]] = {}
    sides = {"training": fold.training, "validation": fold.validation}
    for side, cases in sides.items():
        for case in cases:
            if case.name not in hashes:
                continue
            other_side, other = first.setdefault(hashes[case.name], (side, case))
            if other is case:
                continue
            note = (
                f"{case.image} ({side}) has the same content as {other.image} "
                f"({other_side})"
            )
            if side != other_side and not allow:
                message = f"{note}; take one of them out of the datalist"
                raise ConfigError(message)
            notes.append(note)
    return Fold(fold.training, fold.validation, (*fold.warnings, *notes), fold.test)


def _labelled(datalist: Datalist) -> list[Case]:
    return [case for case in datalist.cases if case.label is not None]


def _units(datalist: Datalist) -> dict[str, list[Case]]:
    """Return what stays together, by name: the free cases of a group, or each case."""
    units: dict[str, list[Case]] = {}
    for case in _labelled(datalist):
        if case.split is None:
            name = case.name if datalist.allow_shared_groups else case.group
            units.setdefault(name, []).append(case)
    return units


def _fold(
    datalist: Datalist, units: Mapping[str, list[Case]], held: Sequence[str]
) -> Fold:
    return _sides(datalist, [case for name in held for case in units[name]])


def _sides(
    datalist: Datalist, validation: Sequence[Case], notes: Sequence[str] = ()
) -> Fold:
    """Return the fold that trains on what neither validates nor tests."""
    held = {case.name for case in validation}
    labelled = _labelled(datalist)
    test = tuple(c for c in datalist.cases if c.split == "test" and c.name not in held)
    apart = held | {case.name for case in test}
    training = tuple(case for case in labelled if case.name not in apart)
    if not training:
        message = (
            f"{datalist.where}: no labelled case is left to train on "
            f"({len(labelled)} labelled, {len(held)} validate, {len(test)} test)"
        )
        raise ConfigError(message)
    kept = tuple(case for case in labelled if case.name in held)
    shared = _shared(training, {"validation": kept, "test": test})
    if shared and not datalist.allow_shared_groups:
        message = (
            f"{datalist.where}: {shared}; move it to one side, or say "
            '"allow_shared_groups": true and every report will say so'
        )
        raise ConfigError(message)
    warnings = (*notes, shared) if shared else tuple(notes)
    return Fold(training, kept, warnings, test)


def _shared(training: Sequence[Case], others: Mapping[str, Sequence[Case]]) -> str:
    groups = {case.group for case in training}
    for side, cases in others.items():
        both = sorted(groups & {case.group for case in cases})
        if both:
            listed = ", ".join(map(repr, both[:5]))
            return (
                f"specimen {listed} is in training and in {side}, so scores do not "
                "measure how well it does on a new specimen"
            )
    return ""


def _one_group(datalist: Datalist) -> str:
    names = sorted({case.group for case in _labelled(datalist)})
    return (
        f"{datalist.where}: all labelled cases belong to one specimen "
        f"({', '.join(names) or 'none'}); add a second one, or say "
        '"allow_shared_groups": true to split it'
    )


def _number(datalist: Datalist, fold: int | str, count: int, folds: int | None) -> int:
    if isinstance(fold, str) and not fold.lstrip("-").isdigit():
        names = list(_units(datalist))
        if folds is None and fold in names:
            return names.index(fold)
        message = f"{datalist.where}: no fold {fold!r}; expected one of {names}"
        raise ConfigError(message)
    number = int(fold)
    if not 0 <= number < count:
        message = f"{datalist.where}: no fold {number}; expected 0 to {count - 1}"
        raise ConfigError(message)
    return number


def content_hash(array: NDArray[Any]) -> str:
    """Return a hash of shape, dtype and voxels (BLAKE2b, 16 bytes, as hex)."""
    import hashlib  # noqa: PLC0415

    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    for part in array:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
