"""Read OME-Zarr images of version 0.4 and 0.5, and Zarr arrays without metadata."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cellseg3d.core.axes import to_zyx
from cellseg3d.core.errors import FormatError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.volume import Volume
from cellseg3d.io.damage import damaged, is_read_error
from cellseg3d.io.layout import Request, split_unit
from cellseg3d.io.lazy import Box, LazyArray, lazy_shape
from cellseg3d.io.members import choose, pair_in, stated_spacing
from cellseg3d.io.picking import (
    CHANNEL_NAMES,
    channel_names_in,
    chunk_note,
    doubted_axes,
    index_of_box,
    pick_axes,
    times_note,
)
from cellseg3d.io.zarr.chunks import (
    EMPTY,
    check_blosc,
    chunk_counts,
    chunk_places,
    ends_in_blosc,
    touched_chunks,
)
from cellseg3d.io.zarr.extent import doubted_extent, doubted_levels
from cellseg3d.io.zarr.levels import (
    bare_axes,
    level_of,
    named_axes,
    scale_of,
    spacing_of,
)
from cellseg3d.io.zarr.metadata import checked_image, multiscales_in
from cellseg3d.io.zarr.parents import image_around
from cellseg3d.io.zarr.sink import create, resume

__all__ = ["ZarrVoxels", "create", "open_file", "resume"]

NOTES_ATTRIBUTE = "cellseg3d"
# Arrays are looked for in so many levels of groups.
DEEPEST = 4


@contextmanager
def quiet() -> Iterator[None]:
    """Hide zarr's own warnings about versions and codecs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"zarr\b.*")
        warnings.filterwarnings("ignore", category=_zarr_warning())
        yield


def _zarr_warning() -> type[Warning]:
    found = getattr(zarr.errors, "ZarrUserWarning", None)
    return found if isinstance(found, type) else DeprecationWarning


@quiet()
def open_file(path: Path, request: Request) -> Volume:
    """Open a level of an OME-Zarr image, or a Zarr array, without reading its voxels.

    Raises
    ------
    FormatError
        If the folder holds no image, or several and the request names none, or if the
        level does not exist.
    AxisError
        If the image holds several channels or time points and none is chosen.
    """
    node, inner, odd = _node(path, request)
    scale: list[float] = []
    units: dict[str, str] = {}
    level = request.level
    around = image_around(path, inner) if isinstance(node, zarr.Array) else None
    if isinstance(node, zarr.Array) and level:
        raise FormatError(
            f"{path}: names one array, so level {level} cannot be chosen; leave out "
            "`level`, or name the image that holds the levels"
        )
    if isinstance(node, zarr.Array) and around is None:
        array, axes = node, bare_axes(path, node)
        attributes, levels = _attributes(node), 1
        odd += doubted_axes(array.shape) if request.read_as is None else []
    else:
        group, image, level = around or (node, None, level)
        attributes = _attributes(group)
        images = multiscales_in(attributes)
        if image is None and len(images) > 1:
            odd.append(f"its first image is read, but not the {len(images) - 1} others")
        image = checked_image(path, images[0] if image is None else image)
        levels = len(image["datasets"])
        array, scale = level_of(path, group, image, level)
        axes, units = named_axes(path, image, array)
        scales = [scale_of(each, image, array.ndim) for each in image["datasets"]]
        odd += doubted_levels(group, image, level, scales)
        array = node if around else array
    odd += doubted_extent(path / array.path, array.shape)
    check_memory(math.prod(array.chunks) * array.dtype.itemsize, f"{path}: a chunk")
    noted = attributes.get(NOTES_ATTRIBUTE)
    unit, notes = split_unit(noted if isinstance(noted, Mapping) else {})
    names = _labels_of_channels(attributes) or channel_names_in(notes)
    axes, picked = pick_axes(path, axes, array.shape, request, names)
    if array.dtype.kind not in "biuf":
        raise FormatError(
            f"{path}: holds voxels of {array.dtype}; expected integers or floats"
        )
    spacing, doubts = (
        spacing_of(axes, scale, units) if scale else stated_spacing(attributes)
    )
    odd += doubts
    provenance: dict[str, Any] = {
        "path": str(path),
        "format": f"Zarr v{array.metadata.zarr_format}",
        "inner": array.path or inner,
        "axes": axes,
        **chunk_note(axes, array.shards or array.chunks),
        **times_note(axes, array.shape),
        "level": level,
        "levels": levels,
    }
    provenance = {**notes, **provenance}
    if names:
        provenance[CHANNEL_NAMES] = names
    if odd:
        provenance["warnings"] = odd
    shape = lazy_shape(axes, array.shape, picked)
    reader = ZarrVoxels(path, array.path, axes, picked)
    lazy = LazyArray(shape, array.dtype.newbyteorder("="), reader)
    return Volume(lazy, spacing, unit, provenance)


@dataclass(frozen=True)
class ZarrVoxels:
    """A reader of a Zarr array, which threads and processes may share.

    Parameters
    ----------
    path : Path
        The folder of the Zarr.
    inner : str
        The path of the array in it.
    axes : str
        One letter for each axis.
    picked : dict
        The index to read along each axis that is not Z, Y or X.
    """

    path: Path
    inner: str
    axes: str
    picked: dict[str, int]
    _array: list[Any] = field(default_factory=list, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (ZarrVoxels, (self.path, self.inner, self.axes, self.picked))

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in a box of slices (z, y, x) or (c, z, y, x)."""
        if not self._array:
            with quiet():
                array = _opened(self.path, self.inner)
            self._array.append(array)
        key, kept = index_of_box(self.axes, self.picked, box)
        self._check_sizes(key)
        try:
            return to_zyx(np.asarray(self._array[0][key]), kept)
        except Exception as error:
            if not is_read_error(error):
                raise
            part = f"array {self.inner or '/'}, {self._culprit(key)}"
            raise damaged(self.path, error, part) from error

    def _check_sizes(self, key: tuple[int | slice, ...]) -> None:
        """Raise an error if a chunk in a region has not the size that it states."""
        array = self._array[0]
        if ends_in_blosc(array):
            for place in touched_chunks(key, array.chunks):
                name = array.metadata.encode_chunk_key(place)
                check_blosc(self.path / self.inner / name)

    def _culprit(self, key: tuple[int | slice, ...]) -> str:
        """Return the name of the first chunk in a region that cannot be read."""
        array = self._array[0]
        units = array.shards or array.chunks
        for place in touched_chunks(key, units):
            corner = tuple(
                slice(index * unit, (index + 1) * unit)
                for index, unit in zip(place, units, strict=True)
            )
            try:
                array[corner]
            except Exception:
                return f"chunk {array.metadata.encode_chunk_key(place)}"
        return "a chunk"


@quiet()
def missing_chunks(path: Path, inner: str) -> tuple[int, int, float, int]:
    """Return how many chunk files of an array are missing, of how many, and their fill.

    The last number says how many lie outside of the shape that the header states.

    A missing chunk reads as the fill value, which is mostly 0. Some programs leave out
    chunks of that value, but an incomplete copy lacks others as well. Those that this
    package left out are listed in the array's attributes and do not count as missing.
    """
    array: Any = _opened(path, inner)
    counts = chunk_counts(array.shape, array.shards or array.chunks)
    # The files are counted, not the places, since a header may state 2^60 chunks.
    found = set(chunk_places(path / inner, len(counts)))
    there = {
        place
        for place in found
        if all(index < count for index, count in zip(place, counts, strict=True))
    }
    whole = math.prod(counts)
    fill = array.fill_value if array.fill_value is not None else 0
    absent = whole - len(there | _listed_empty(array, counts))
    return absent, whole, fill, len(found - there)


def _opened(path: Path, inner: str) -> Any:  # noqa: ANN401
    """Return an array of a folder.

    Raises
    ------
    FormatError
        If the library cannot make sense of its metadata.
    """
    try:
        return zarr.open_array(path, path=inner, mode="r")
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        cause = " ".join(str(error).split())
        raise FormatError(
            f"{path}: the metadata of {inner!r} cannot be read ({cause:.200}); export "
            "it again"
        ) from error


def _listed_empty(array: Any, counts: Sequence[int]) -> set[tuple[int, ...]]:  # noqa: ANN401
    """Return the chunks of zeros that the writer left out, as it says."""
    listed = _attributes(array).get(EMPTY, [])
    places = {
        tuple(place)
        for place in (listed if isinstance(listed, list) else [])
        if isinstance(place, list)
        and len(place) == len(counts)
        and all(isinstance(index, int) for index in place)
    }
    return {
        place
        for place in places
        if all(0 <= index < count for index, count in zip(place, counts, strict=True))
    }


def _node(path: Path, request: Request) -> tuple[Any, str, list[str]]:
    """Return the image or array to read, its path in the folder, and odd facts."""
    inner = request.inner
    try:
        with quiet():
            node = zarr.open(path, path=inner or None, mode="r", use_consolidated=False)
    except (FileNotFoundError, KeyError, ValueError, OSError) as error:
        what = f"holds no {inner!r}" if inner else "is not a Zarr group or array"
        raise FormatError(f"{path}: {what} ({error}); check the path") from error
    if isinstance(node, zarr.Array):
        return node, inner or "", []
    if multiscales_in(_attributes(node)):
        found = label_images(node) if request.labels and not inner else []
        if not found:
            return node, inner or "", []
        name, _ = choose(path, found, labels=True, what="label images")
        return node[name], name, [f"its {name} is read, not the image"]
    images = _images(node)
    if not images:
        raise FormatError(
            f"{path}: is a Zarr group without an image or array; name another folder"
        )
    if _plate(node) and len(images) > 1:
        listed = ", ".join(images[:8]) + (" ..." if len(images) > 8 else "")
        raise FormatError(
            f"{path}: holds a plate of {len(images)} images ({listed}); name one as "
            f"{path.name}::{images[0]}"
        )
    name, odd = choose(path, images, labels=request.labels, what="images")
    return node[name], f"{inner}/{name}" if inner else name, odd


def image_and_label(path: Path) -> tuple[str, str] | None:
    """Return the paths of an image and its labels in a Zarr; None without both.

    They are an OME-Zarr image and the one in its group ``labels``, or two arrays with
    usual names such as ``raw`` and ``label``. The path of the image at the root is
    ``""``.

    Raises
    ------
    FormatError
        If the folder is no Zarr that can be read.
    """
    try:
        with quiet():
            node = zarr.open(path, mode="r", use_consolidated=False)
    except (FileNotFoundError, KeyError, ValueError, OSError) as error:
        message = f"{path}: is not a Zarr group or array ({error}); check the path"
        raise FormatError(message) from error
    if isinstance(node, zarr.Array):
        return None
    if multiscales_in(_attributes(node)):
        labels = label_images(node)
        return ("", labels[0]) if len(labels) == 1 else None
    return pair_in(_images(node))


def label_images(group: Any) -> list[str]:  # noqa: ANN401
    """Return the paths of the label images in an OME-Zarr image."""
    labels = group.get("labels")
    if not isinstance(labels, zarr.Group):
        return []
    return [f"labels/{name}" for name in _images(labels)]


def _images(node: Any) -> list[str]:  # noqa: ANN401
    """Return the paths of the images and arrays in a group, by name."""
    if _plate(node):
        return [
            f"{well['path']}/{image['path']}"
            for well in _plate(node)
            if well["path"] in node
            for image in _ome(node[well["path"]]).get("well", {}).get("images", [])
        ]
    found = [
        name
        for name, member in node.members(max_depth=DEEPEST)
        if isinstance(member, zarr.Array) or multiscales_in(_attributes(member))
    ]
    return sorted(
        name for name in found if not any(name.startswith(f"{each}/") for each in found)
    )


def _attributes(node: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the attributes of a group or array; none if they are no mapping."""
    try:
        return dict(node.attrs)
    except (TypeError, ValueError, AttributeError):
        return {}


def _ome(node: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """Return the OME metadata of a group, in version 0.4 or 0.5."""
    attributes = _attributes(node)
    found = attributes.get("ome", attributes)
    return found if isinstance(found, Mapping) else {}


def _plate(node: Any) -> list[Any]:  # noqa: ANN401
    """Return the wells if a group is a plate of high-content screening, else none."""
    plate = _ome(node).get("plate")
    wells = plate.get("wells") if isinstance(plate, Mapping) else None
    return wells if isinstance(wells, list) else []


def _labels_of_channels(attributes: Mapping[str, Any]) -> list[str]:
    """Return the labels of the channels, where the image has them for all."""
    ome = attributes.get("ome", attributes)
    omero = ome.get("omero", attributes.get("omero"))
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    entries = channels if isinstance(channels, list) else []
    labels = [each.get("label") for each in entries if isinstance(each, Mapping)]
    known = all(isinstance(label, str) and label for label in labels)
    return [str(label) for label in labels] if known else []
