"""Split the cases of a data set into folds that keep each specimen on one side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.cases import Case, Datalist


@dataclass(frozen=True)
class Fold:
    """The cases to train, to validate and to test on, and warnings about them.

    Parameters
    ----------
    training, validation, test : tuple of Case
        The cases of each side; no case is on two sides. `test` holds the cases that
        the datalist marks ``"test"``.
    warnings : tuple of str
        Sentences that every report on this fold repeats.
    """

    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    warnings: tuple[str, ...] = ()
    test: tuple[Case, ...] = ()


def leave_one_group_out(datalist: Datalist) -> list[Fold]:
    """Return one fold for each group; the group is the fold's validation side.

    With ``allow_shared_groups`` there is one fold for each case instead, and a warning
    in each fold. Cases without a label are left out.

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
    """Return `k` folds of whole groups, shuffled with a seed.

    Groups with more cases are assigned first, each to the fold with the fewest cases,
    so that folds have about equally many.

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
        The data set.
    fold : int, str or None
        The fold's number, or the name of the group to validate on; with None all cases
        train.
    validation : "auto", "none", or sequence of str
        With ``"auto"``, the cases that the datalist marks ``"validation"`` validate; if
        there are none, the fold decides. With ``"none"`` all cases train. Names of
        cases or groups choose the cases to validate on.
    folds : int, optional
        Number of folds; when None, each group is left out once.
    seed : int
        Seed of the shuffle, when `folds` is given.

    Returns
    -------
    Fold
        The cases that the datalist marks ``"test"`` are on neither side. If there is
        only one group, no case validates and the fold has a warning.

    Raises
    ------
    ConfigError
        If the fold does not exist, if no case is left to train on, or if a group would
        be on both sides without ``allow_shared_groups``.
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
    """Return the fold with a warning for each pair of images of the same content.

    Parameters
    ----------
    fold : Fold
        The fold to check.
    hashes : mapping of str to str
        Content hash of each case's image, by case name.
    allow : bool
        Whether to warn, instead of raising an error, when the two images are on
        different sides.

    Raises
    ------
    ConfigError
        If two images of the same content train and validate, unless `allow`.
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
                message = f"{note}; remove one of them from the datalist"
                raise ConfigError(message)
            notes.append(note)
    return Fold(fold.training, fold.validation, (*fold.warnings, *notes), fold.test)


def _labelled(datalist: Datalist) -> list[Case]:
    return [case for case in datalist.cases if case.label is not None]


def _units(datalist: Datalist) -> dict[str, list[Case]]:
    """Return the cases that stay together, by name of their group or of the case.

    Cases whose side the datalist prescribes are left out.
    """
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
    """Return the fold whose training side is all cases but validation and test."""
    held = {case.name for case in validation}
    labelled = _labelled(datalist)
    test = tuple(c for c in datalist.cases if c.split == "test" and c.name not in held)
    apart = held | {case.name for case in test}
    training = tuple(case for case in labelled if case.name not in apart)
    if not training:
        message = (
            f"{datalist.where}: no labelled case is left to train on: "
            f"{len(labelled)} are labelled, {len(held)} validate and {len(test)} test; "
            "add labelled cases, or validate on fewer"
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
