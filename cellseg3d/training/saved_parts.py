"""Check that a saved state fits the parts of a training before it is restored."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from cellseg3d.core.errors import FormatError


def check_fits(saved: Any, part: Any, where: str) -> None:  # noqa: ANN401
    """Refuse a saved state that has another form than the part's present state.

    Torch restores an unsuitable state without a word, and fails, or ends the process,
    in a later step.

    Parameters
    ----------
    saved : object
        The state that was read from a checkpoint.
    part : object
        The network, optimizer, schedule or history that is to take it.
    where : str
        The file and the name of the part; the error begins with it.

    Raises
    ------
    FormatError
        If a key is missing or unknown, a tensor has another shape or dtype, or a value
        is of another type.
    """
    present = part.state_dict()
    if isinstance(part, Optimizer):
        # It has no moments before the first step.
        present = {**present, "state": {}}
        plain = {**saved, "state": {}} if isinstance(saved, Mapping) else saved
        _check(plain, present, where, exact=True)
        _check_moments(saved, part, where)
    else:
        _check(saved, present, where, exact=isinstance(part, nn.Module))


def _check(found: Any, like: Any, where: str, *, exact: bool) -> None:  # noqa: ANN401
    """Compare a saved value with the present one; lists keep their length if exact."""
    if isinstance(like, Tensor):
        fits = isinstance(found, Tensor) and found.shape == like.shape
        if not fits or found.dtype != like.dtype:
            raise _unlike(where, found, like)
    elif isinstance(like, Mapping):
        if not isinstance(found, Mapping) or set(found) != set(like):
            raise _unlike(where, found, like)
        for key, value in like.items():
            _check(found[key], value, f"{where}: {key}", exact=exact)
    elif isinstance(like, list | tuple):
        same = isinstance(found, list | tuple)
        if not same or (exact and len(found) != len(like)):
            raise _unlike(where, found, like)
        others = like if exact else [0.0] * len(found)
        for number, (item, other) in enumerate(zip(found, others, strict=True)):
            _check(item, other, f"{where}: {number}", exact=exact)
    elif not _same_kind(found, like, exact=exact):
        raise _unlike(where, found, like)


def _same_kind(found: object, like: object, *, exact: bool) -> bool:
    if like is None or (exact and isinstance(like, bool)):
        return found is like  # which way an optimizer computes
    if isinstance(like, bool | str):
        return type(found) is type(like)
    whole = isinstance(found, int) and not isinstance(found, bool)
    return whole or (isinstance(like, float) and isinstance(found, float))


def _check_moments(saved: Mapping[str, Any], optimizer: Optimizer, where: str) -> None:
    """Check the tensors that an optimizer keeps for each weight."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    kept = saved.get("state")
    if not isinstance(kept, Mapping):
        raise _unlike(where, saved, optimizer.state_dict())
    groups = [group.get("params") for group in saved["param_groups"]]
    if groups != [each["params"] for each in optimizer.state_dict()["param_groups"]]:
        message = f"{where}: param_groups: are not those of this network"
        raise FormatError(f"{message}; use an earlier checkpoint")
    names: Sequence[Any] = []
    for number, moments in kept.items():
        known = isinstance(number, int) and 0 <= number < len(parameters)
        if not known or not isinstance(moments, Mapping):
            message = f"{where}: state: {number!r} is no weight of the network"
            raise FormatError(f"{message}; use an earlier checkpoint")
        names = names or sorted(map(str, moments))
        for name, value in moments.items():
            weight = parameters[number]
            fits = isinstance(value, Tensor) and (
                value.shape == ()
                or (value.shape == weight.shape and value.dtype == weight.dtype)
            )
            if not fits:
                raise _unlike(f"{where}: {number}: {name}", value, weight)
        if sorted(map(str, moments)) != names:
            raise _unlike(f"{where}: {number}", moments, dict.fromkeys(names))


def _unlike(where: str, found: object, like: object) -> FormatError:
    message = (
        f"{where}: holds {_words(found)}, but this training needs {_words(like)}; "
        "use an earlier checkpoint, or start a new training"
    )
    return FormatError(message)


def _words(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} {[*value.shape]}"
    if isinstance(value, Mapping):
        return f"the keys {', '.join(map(str, value))}"[:120]
    return f"{value!r}"[:60]
