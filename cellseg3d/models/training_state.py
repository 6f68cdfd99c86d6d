"""The state of a training on disk: tensors and plain values, never code."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.errors import ConfigError, FormatError
from cellseg3d.models.checkpoint import (
    read_torch,
    refuse_non_finite,
    tensor_sha256,
    with_previous,
)

_PLAIN = (str, bool, int, float, type(None))


@dataclass(frozen=True)
class TrainingState:
    """A training state that `load_state` has read.

    Parameters
    ----------
    values : dict
        The saved values; arrays come back as tensors, NumPy numbers as Python numbers.
    path : Path
        The file that was read; ends in ``.prev`` when the newest one was broken.
    warnings : tuple of str
        Messages that the user should see.
    """

    values: dict[str, Any]
    path: Path
    warnings: tuple[str, ...] = ()


def save_state(path: Path, values: Mapping[str, Any]) -> None:
    """Write optimiser, schedule, random generators and counters; keep the last file.

    Parameters
    ----------
    path : Path
        Path that ends in ``.pt``; its folder must exist.
    values : mapping of str
        Nested dicts, lists and tuples of tensors, arrays, numbers, text.

    Raises
    ------
    ConfigError
        If another type is among the values; the message names its place.
    NonFiniteError
        If a tensor holds NaN or infinity. The old file is kept.
    EnvironmentFault
        If the disk is full or the folder cannot be written. The old file is kept.
    """
    plain = _plain(dict(values), "state")
    refuse_non_finite(path, _tensors(plain, "state"))

    buffer = io.BytesIO()
    torch.save({"values": plain, "sha256": state_sha256(plain)}, buffer)
    atomic_write(
        path,
        # Written with Python, because torch hides why a write failed.
        lambda temporary: _write(temporary, buffer),
        verify=_check,
        keep_previous=True,
    )


def load_state(path: Path) -> TrainingState:
    """Read a training state; if the file is broken, read its ``.prev``.

    Raises
    ------
    FormatError
        If the file is missing, cut short or altered, and the previous one is too.
    """
    state, warning = with_previous(path, _read)
    if not warning:
        return state
    return TrainingState(state.values, state.path, (warning,))


def read_state(path: Path) -> dict[str, Any]:
    """Return the content of one state file after checking its hash.

    Raises
    ------
    FormatError
        If the file is missing, cut short, altered, or no training state.
    """
    if not path.is_file():
        message = f"{path}: no such file; expected a training state (.pt)"
        raise FormatError(message)
    content = read_torch(path)
    if not isinstance(content, dict) or set(content) != {"values", "sha256"}:
        message = f"{path}: holds no state of a cellseg3d training"
        raise FormatError(message)
    values: dict[str, Any] = content["values"]
    if content["sha256"] != state_sha256(values):
        message = f"{path}: its hash does not match; the file was altered or damaged"
        raise FormatError(message)
    return values


def state_sha256(value: Any) -> str:  # noqa: ANN401 - nested plain values
    """Return the SHA-256 of nested mappings, lists, tensors and plain values."""
    hasher = hashlib.sha256()
    for part in _digests(value):
        hasher.update(part.encode())
    return hasher.hexdigest()


def _digests(value: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(value, Tensor):
        yield tensor_sha256(value)
    elif isinstance(value, Mapping):
        yield "{"
        for key, item in value.items():
            yield f"{key!r}:"
            yield from _digests(item)
        yield "}"
    elif isinstance(value, list | tuple):
        yield "["
        for item in value:
            yield from _digests(item)
            yield ","
        yield "]"
    else:
        yield json.dumps(value)


def _read(path: Path) -> TrainingState:
    return TrainingState(read_state(path), path)


def _check(path: Path) -> None:
    read_state(path)


def _write(path: Path, buffer: io.BytesIO) -> None:
    path.write_bytes(buffer.getbuffer())


def _plain(value: Any, where: str) -> Any:  # noqa: ANN401 - any nesting
    """Return a value in a form that can be read back without running code."""
    if isinstance(value, Tensor):
        return value.detach().cpu().as_subclass(Tensor)
    # Exact types only: NumPy's float64 is a float too, but cannot be read back.
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), where)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.array(value, copy=True, order="C"))
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    message = (
        f"{where} is a {type(value).__name__}; a training state holds tensors, arrays, "
        "numbers and text alone, so that reading it runs no code"
    )
    raise ConfigError(message)


def _tensors(value: Any, where: str) -> dict[str, Tensor]:  # noqa: ANN401
    """Return every tensor among nested values, by its place."""
    if isinstance(value, Tensor):
        return {where: value}
    found: dict[str, Tensor] = {}
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, item in value.items():
            found.update(_tensors(item, f"{where}[{key!r}]"))
    return found
