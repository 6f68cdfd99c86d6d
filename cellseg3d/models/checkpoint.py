"""Weights on disk: safetensors with a hash of every tensor; the last file is kept."""

import hashlib
import json
import logging
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.errors import FormatError, InputError, NonFiniteError

_KEY = "cellseg3d"
# How our record begins, its keys being sorted.
_RECORD = '{"digest"'
# The keys under which other programs' checkpoints usually hold their weights.
_NESTS = ("model", "network", "net", "state_dict")
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class ArchitectureError(InputError):
    """Weights belong to another network."""


@dataclass(frozen=True)
class Weights:
    """Weights read from a file and checked.

    Parameters
    ----------
    tensors : dict of str to tensor
        Tensors by name on the CPU, as ``load_state_dict`` takes them.
    metadata : dict
        Values saved with the weights; empty for another program's file.
    path : Path
        The file that was read; ends in ``.prev`` when the newest one was broken.
    sha256 : str
        Hash of names, dtypes, shapes, values and metadata together.
    warnings : tuple of str
        Messages that the user should see.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    path: Path
    sha256: str
    warnings: tuple[str, ...] = ()


def save_weights(
    path: Path,
    state_dict: Mapping[str, Tensor],
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Write weights; the old file is replaced only when the new one was read back.

    The file that was there before is kept as ``NAME.prev``.

    Parameters
    ----------
    path : Path
        Path that ends in ``.safetensors``; its folder must exist.
    state_dict : mapping of str to tensor
    metadata : mapping, optional
        Any values that JSON can hold.

    Returns
    -------
    str
        The SHA-256 that `load_weights` will return.

    Raises
    ------
    NonFiniteError
        If a weight is NaN or infinite. The old file is kept.
    EnvironmentFault
        If the disk is full or the folder cannot be written. The old file is kept.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in state_dict.items()
    }
    refuse_non_finite(path, tensors)
    record: dict[str, Any] = {
        "metadata": dict(metadata or {}),
        "sha256": {name: tensor_sha256(value) for name, value in tensors.items()},
    }
    digest = record["digest"] = _digest(record)
    text = json.dumps(record, sort_keys=True)
    atomic_write(
        path,
        lambda temporary: _write(temporary, save(tensors, {_KEY: text})),
        verify=lambda temporary: _same(_read_own(temporary), digest),
        keep_previous=True,
    )
    return str(digest)


def load_weights(
    path: Path,
    expected: nn.Module | Mapping[str, Tensor] | None = None,
) -> Weights:
    """Read weights of this package or a plain ``state_dict``, and check them.

    If the file is broken, its ``.prev`` is read instead, and ``warnings`` says so.
    Files are never unpickled in a way that could run code.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file, or a torch file that holds only tensors.
    expected : Module or mapping of str to tensor, optional
        The network that the weights are for, or its state dict.

    Raises
    ------
    FormatError
        If the file is missing, cut short, altered or no weights, and the previous one
        is too.
    NonFiniteError
        If a weight is not finite, in the previous file as well.
    ArchitectureError
        If names or shapes differ from the network's; the message names the first one.
    """

    def read(source: Path) -> Weights:
        weights = _read(source)
        refuse_non_finite(source, weights.tensors)
        return weights

    weights, warning = with_previous(path, read)
    if expected is not None:
        check_names(weights.path, weights.tensors, expected)
    if not warning:
        return weights
    return Weights(
        weights.tensors, weights.metadata, weights.path, weights.sha256, (warning,)
    )


def with_previous(path: Path, read: Callable[[Path], _T]) -> tuple[_T, str]:
    """Return what `read` returns for a file or else for its ``.prev``, and a warning.

    Raises
    ------
    InputError
        The first file's error, if the previous file is missing or broken too, or if
        the first file is whole but belongs to another network.
    """
    previous = path.with_name(f"{path.name}.prev")
    try:
        return read(path), ""
    except ArchitectureError:
        raise
    except InputError as error:
        if not previous.is_file():
            raise
        try:
            value = read(previous)
        except InputError as second:
            message = f"{error}; the one before is broken too: {second}"
            raise type(error)(message) from second
        warning = f"{error}; using the one before it, {previous.name}"
        _log.warning(warning)
        return value, warning


def check_names(
    path: Path,
    tensors: Mapping[str, Tensor],
    expected: nn.Module | Mapping[str, Tensor],
) -> None:
    """Raise an error if names or shapes of weights differ from the network's.

    Raises
    ------
    ArchitectureError
        If they differ. The message names the first such tensor and both shapes.
    """
    wanted = expected.state_dict() if isinstance(expected, nn.Module) else expected
    way_out = "these weights belong to another network; load them into the one they"
    for name, tensor in wanted.items():
        if name not in tensors:
            message = f"{path}: {name!r} is missing; {way_out} were trained with"
            raise ArchitectureError(message)
        found, shape = tuple(tensors[name].shape), tuple(tensor.shape)
        if found != shape:
            message = (
                f"{path}: {name!r} has shape {found}, the network expects {shape}; "
                f"{way_out} were trained with"
            )
            raise ArchitectureError(message)
    for name in tensors:
        if name not in wanted:
            message = (
                f"{path}: {name!r} is not in the network; {way_out} were trained with"
            )
            raise ArchitectureError(message)


def refuse_non_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise an error if a tensor holds NaN or infinity.

    Raises
    ------
    NonFiniteError
        If one does. The message names it and the number of such values.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            message = (
                f"{path}: {count} of {tensor.numel()} values of {name!r} are NaN or "
                "infinite; go back to an earlier checkpoint or lower the learning rate"
            )
            raise NonFiniteError(message)


def tensor_sha256(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's dtype, shape and bytes."""
    plain = tensor.detach().cpu().contiguous()
    hasher = hashlib.sha256(f"{plain.dtype}{tuple(plain.shape)}".encode())
    if plain.numel():
        hasher.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)


def _read(path: Path) -> Weights:
    if not path.is_file():
        message = f"{path}: no such file; expected weights (.safetensors or .pt)"
        raise FormatError(message)
    if path.name.removesuffix(".prev").endswith(".safetensors"):
        return _read_own(path)
    return _read_foreign(path)


def _read_own(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        message = (
            f"{path}: not a complete safetensors file ({error}); copy it again or "
            "use an earlier checkpoint"
        )
        raise FormatError(message) from error
    hashes = {name: tensor_sha256(tensor) for name, tensor in tensors.items()}
    if _KEY not in header:
        if any(text.startswith(_RECORD) for text in header.values()):
            raise FormatError(_altered(path, "its metadata"))
        return Weights(tensors, {}, path, _digest({"metadata": {}, "sha256": hashes}))
    try:
        record = json.loads(header[_KEY])
        digest, stored, metadata = (
            record[key] for key in ("digest", "sha256", "metadata")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(_altered(path, "its metadata")) from error
    for name in sorted({*stored, *hashes}):
        if stored.get(name) != hashes.get(name):
            raise FormatError(_altered(path, repr(name)))
    if digest != _digest({"metadata": metadata, "sha256": stored}):
        raise FormatError(_altered(path, "its metadata"))
    return Weights(tensors, metadata, path, digest)


def _read_foreign(path: Path) -> Weights:
    values = read_torch(path)
    for nest in _NESTS:
        if isinstance(values, Mapping) and isinstance(values.get(nest), Mapping):
            values = values[nest]
    if (
        not isinstance(values, Mapping)
        or not values
        or not all(isinstance(value, Tensor) for value in values.values())
    ):
        message = (
            f"{path}: holds no state dict; expected a mapping of names to tensors, "
            "bare or under one of " + ", ".join(_NESTS)
        )
        raise FormatError(message)
    tensors = {str(name).removeprefix("module."): t for name, t in values.items()}
    hashes = {name: tensor_sha256(tensor) for name, tensor in tensors.items()}
    return Weights(tensors, {}, path, _digest({"metadata": {}, "sha256": hashes}))


def read_torch(path: Path) -> Any:  # noqa: ANN401 - whatever was saved
    """Return the content of a torch file that holds only tensors and plain values.

    Raises
    ------
    FormatError
        If it is cut short, altered (its CRC is wrong), or holds Python objects.
    """
    if zipfile.is_zipfile(path) and (record := _broken_record(path)):
        raise FormatError(_altered(path, f"its record {record!r}"))
    try:
        with warnings.catch_warnings():
            # Said of pickles that torch did not write; they are refused below.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = (
            f"{path}: cut short, or holds Python objects, which could run code when "
            "read; ask its author for a safetensors file or a plain state dict"
        )
        raise FormatError(message) from error
    except Exception as error:
        # Reading damaged bytes can raise any kind of error.
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = (
            f"{path}: not a complete torch file ({cause}); copy it again or use an "
            "earlier checkpoint"
        )
        raise FormatError(message) from error


def _broken_record(path: Path) -> str | None:
    """Return the first record of a zip file whose checksum is wrong, or None."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        return str(error)


def _altered(path: Path, what: str) -> str:
    return (
        f"{path}: the hash of {what} does not match; the file was altered or damaged, "
        "copy it again or use an earlier checkpoint"
    )


def _digest(record: Mapping[str, Any]) -> str:
    parts = {key: record[key] for key in ("metadata", "sha256")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _same(weights: Weights, digest: str) -> None:
    if weights.sha256 != digest:
        message = (
            f"{weights.path}: what was read back differs from what was written; the "
            "disk or the memory may be failing"
        )
        raise FormatError(message)
