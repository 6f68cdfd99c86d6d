"""Find the dataset of an HDF5 file to read, and check what the file states of it."""

import math
from pathlib import Path
from typing import Any

import h5py

from cellseg3d.core.errors import FormatError
from cellseg3d.io.damage import reading
from cellseg3d.io.layout import Request
from cellseg3d.io.members import choose, pair_in

# The header of a file, and where it states the file's length, by its version.
_SIGNATURE, _HEAD = b"\x89HDF\r\n\x1a\n", 64
_END_OF_FILE = {0: 40, 1: 44, 2: 28, 3: 28}


def image_and_label(path: Path) -> tuple[str, str] | None:
    """Return the datasets of an image and its labels in a file; None without both.

    Raises
    ------
    FormatError
        If the file is damaged.
    EnvironmentFault
        If another program holds it.
    """
    with reading(path), h5py.File(path, "r") as file:
        return pair_in(candidates(file))


def candidates(file: Any) -> list[str]:  # noqa: ANN401
    """Return the names of the datasets of an open file that may be volumes.

    They hold numbers and have two axes or more. If any has three or more, those with
    two, such as lists of points, are left out.
    """
    found: dict[str, int] = {}

    def collect(name: str, item: Any) -> None:  # noqa: ANN401
        # A dataset of one axis is not an image; it may be a spacing.
        if (
            isinstance(item, h5py.Dataset)
            and item.ndim >= 2
            and item.dtype.kind in "biuf"
        ):
            found[name] = item.ndim

    file.visititems(collect)
    solid = [name for name, axes in found.items() if axes >= 3]
    return solid or list(found)


def wanted(path: Path, file: Any, request: Request) -> tuple[str, list[str]]:  # noqa: ANN401
    """Return the name of the dataset to read, and a sentence about any others."""
    if request.inner:
        return request.inner, []
    found = candidates(file)
    if not found:
        outside = _links_outside(file)
        if outside:
            raise FormatError(f"{path}: {outside[0]}; copy the data into this file")
        raise FormatError(
            f"{path}: holds no dataset of numbers with two or more axes; write the "
            "volume into it as a dataset (z, y, x)"
        )
    return choose(path, found, labels=request.labels)


def dataset_in(path: Path, file: Any, name: str) -> Any:  # noqa: ANN401
    """Return a dataset after a check that its voxels lie in this file."""
    group = file
    for part in [each for each in name.split("/") if each]:
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise FormatError(
                f"{path}: its dataset {name} is a link into another file "
                f"({link.filename}); copy the data into this file"
            )
        try:
            group = group[part]
        except (KeyError, TypeError) as error:
            there = ", ".join(candidates(file)[:8]) or "none with two or more axes"
            raise FormatError(
                f"{path}: holds no dataset {name!r}; its datasets are: {there}"
            ) from error
    if not isinstance(group, h5py.Dataset):
        inside = ", ".join(f"{name}/{each}" for each in list(group)[:8])
        raise FormatError(
            f"{path}: {name!r} is a group, not a dataset; name one of {inside}"
        )
    if group.external or group.is_virtual or group.file.filename != file.filename:
        raise FormatError(
            f"{path}: the voxels of its dataset {name} lie in another file; copy them "
            "into this one"
        )
    if group.dtype.kind not in "biuf":
        raise FormatError(
            f"{path}: its dataset {name} holds {group.dtype}; expected integers or "
            "floats"
        )
    return group


def _links_outside(group: Any) -> list[str]:  # noqa: ANN401
    found = []
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            found.append(
                f"its dataset {name} is a link into another file ({link.filename})"
            )
    return found


def check_extent(path: Path, dataset: Any) -> None:  # noqa: ANN401
    """Raise an error if a dataset without chunks has other bytes than its shape needs.

    Raises
    ------
    FormatError
        With both sizes.
    """
    stored, needed = int(dataset.id.get_storage_size()), int(dataset.nbytes)
    if dataset.chunks is None and stored not in (0, needed):
        raise FormatError(
            f"{path}: its dataset {dataset.name} holds {stored} bytes, but its shape "
            f"{dataset.shape} of {dataset.dtype} needs {needed}; copy it again"
        )


def bytes_behind(path: Path) -> list[str]:
    """Return a sentence if a file is longer than its header states."""
    head = _header(path)
    place = _END_OF_FILE.get(head[8]) if any(head) else None
    # The sizes of numbers lie in other bytes in the first versions.
    if place is None or head[13 if head[8] < 2 else 9] != 8:
        return []
    behind = path.stat().st_size - int.from_bytes(head[place : place + 8], "little")
    return [f"{behind} unknown bytes follow the data"] if behind > 0 else []


def _header(path: Path) -> bytes:
    """Return the header of a file; it lies behind a block of the user's own, if any.

    Such a block has 512 bytes, or twice, four times, ... as many.
    """
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + _HEAD <= size:
            file.seek(place)
            head = file.read(_HEAD)
            if head.startswith(_SIGNATURE):
                return head
            place = max(512, 2 * place)
    return bytes(_HEAD)


def missing_chunks(path: Path, inner: str) -> tuple[int, int, float, int]:
    """Return how many chunks of a dataset are missing, of how many, and their fill.

    The last number says how many lie outside of the shape that the header states.

    A missing chunk reads as the fill value, which is mostly 0. Some programs leave out
    chunks of that value, but a program that was killed leaves out others as well.
    """
    with h5py.File(path, "r") as file:
        dataset = file[inner]
        if dataset.chunks is None:
            return 0, 0, 0, 0
        counts = [
            -(-length // side)
            for length, side in zip(dataset.shape, dataset.chunks, strict=True)
        ]
        places = _chunk_places(dataset)
        there = {
            place
            for place in places
            if all(0 <= a < b for a, b in zip(place, counts, strict=True))
        }
        whole, outside = math.prod(counts), len(set(places) - there)
        return whole - len(there), whole, dataset.fillvalue.item(), outside


def _chunk_places(dataset: Any) -> list[tuple[int, ...]]:  # noqa: ANN401
    """Return the index of each chunk of a dataset along its axes.

    A damaged file may hold chunks at places that no voxel has, or not on the grid.
    """
    found: list[tuple[int, ...]] = []

    def take(chunk: Any) -> None:  # noqa: ANN401
        pairs = list(zip(chunk.chunk_offset, dataset.chunks, strict=True))
        if all(offset % side == 0 for offset, side in pairs):
            found.append(tuple(offset // side for offset, side in pairs))

    dataset.id.chunk_iter(take)
    return found
