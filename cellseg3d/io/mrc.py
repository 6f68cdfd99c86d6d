"""MRC and REC: electron and X-ray tomograms, 1024 bytes of header, then voxels."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import mrcfile.dtypes
import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import AxisError, FormatError
from cellseg3d.core.roi import zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.layout import (
    Layout,
    Request,
    Sink,
    check_unfinished,
    pack_notes,
    split_unit,
    unpack_notes,
)
from cellseg3d.io.lazy import RawVoxels
from cellseg3d.io.picking import pick_axes
from cellseg3d.io.raw_sink import RawSink

Order = Literal["<", ">"]
_ORDERS: tuple[Order, Order] = ("<", ">")

HEADER_BYTES = 1024
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
# IMOD marks its files; its bytes are unsigned unless the first flag says otherwise.
IMOD_STAMP = 1146047817
VOLUME_STACK = 401
LABEL_CHARACTERS = 80


def open_file(path: Path, request: Request) -> Volume:
    """Open an MRC file of mode 0, 1, 2, 6 or 12, of either byte order, lazily.

    Whatever axes the columns, rows and sections are (MAPC, MAPR, MAPS), the volume is
    (z, y, x).

    Raises
    ------
    FormatError
        If a header field makes no sense, or the file is shorter than it promises.
    AxisError
        If the file holds a stack of volumes.
    """
    header, order = _read_header(path)
    voxels = _voxels(path, header, order)
    if request.read_as is None:
        _refuse_stack(path, header, voxels.shape[0])
    axes, picked = pick_axes(path, voxels.axes, voxels.shape, request)
    voxels = replace(voxels, axes=axes, picked=picked)
    found = path.stat().st_size
    if found < voxels.end:
        raise FormatError(
            f"{path}: incomplete, {found} of {voxels.end} bytes; copy it again"
        )
    spacing, warnings = _spacing(header)
    if found > voxels.end:
        warnings.append(f"{found - voxels.end} bytes follow the last voxel")
    labels = b"\n".join(header["label"][: max(0, int(header["nlabl"]))].tolist())
    unit, notes = split_unit(unpack_notes(_joined(labels)))
    provenance: dict[str, Any] = {
        "path": str(path),
        "format": "MRC",
        "axes": voxels.axes,
    }
    provenance = {**notes, **provenance}
    if warnings:
        provenance["warnings"] = warnings
    return Volume(voxels.lazy(), spacing, unit, provenance)


def create(path: Path, layout: Layout) -> Sink:
    """Write an MRC header and room for the voxels (little endian, X fastest).

    Unsigned bytes become mode 6 (uint16), exactly.

    Raises
    ------
    FormatError
        If MRC has no mode that holds this dtype exactly.
    """
    dtype = _file_dtype(path, layout.dtype)
    header = _new_header(layout, dtype)
    path.write_bytes(header.tobytes())
    return RawSink(path, HEADER_BYTES, dtype, layout.shape)


def resume(path: Path, layout: Layout) -> Sink:
    """Return a sink that goes on with an unfinished file.

    Raises
    ------
    FormatError
        If what lies there has another shape or type.
    """
    voxels = _voxels(path, *_read_header(path))
    dtype = _file_dtype(path, layout.dtype)
    found = {"shape": zyx(voxels.shape), "dtype": voxels.dtype}
    check_unfinished(path, found, {"shape": layout.shape, "dtype": dtype})
    return RawSink(path, voxels.offset, dtype, layout.shape)


def _read_header(path: Path) -> tuple[Any, Order]:
    with path.open("rb") as file:
        data = file.read(HEADER_BYTES)
    if len(data) < HEADER_BYTES:
        raise FormatError(
            f"{path}: incomplete, {len(data)} bytes where an MRC header needs "
            f"{HEADER_BYTES}; copy it again"
        )
    dtype = mrcfile.dtypes.HEADER_DTYPE
    readings: list[tuple[Any, Order]] = [
        (np.frombuffer(data, dtype.newbyteorder(order))[0], order) for order in _ORDERS
    ]
    # The machine stamp is often wrong. A swapped mode is above 255, unless it is 0:
    # then a swapped axis number tells.
    likely = [each for each in readings if 0 <= int(each[0]["mode"]) < 256]
    sure = [each for each in likely if 0 <= int(each[0]["mapc"]) <= 3]
    if not likely:
        raise FormatError(
            f"{path}: MRC field MODE is {int(readings[0][0]['mode'])}; expected one of "
            f"{', '.join(map(str, MODES))}"
        )
    return (sure or likely)[0]


def _voxels(path: Path, header: Any, order: Order) -> RawVoxels:  # noqa: ANN401
    mode = int(header["mode"])
    if mode not in MODES:
        raise FormatError(
            f"{path}: MRC field MODE is {mode}; expected one of "
            f"{', '.join(map(str, MODES))} (complex and packed data are not volumes)"
        )
    lengths = [int(header[name]) for name in ("nz", "ny", "nx")]
    for name, length in zip(("NZ", "NY", "NX"), lengths, strict=True):
        if length < 1:
            raise FormatError(
                f"{path}: MRC field {name} is {length}; expected 1 or more"
            )
    extended = int(header["nsymbt"])
    if extended < 0:
        raise FormatError(f"{path}: MRC field NSYMBT is {extended}; expected 0 or more")
    kind = "u1" if mode == 0 and _unsigned_bytes(header) else MODES[mode]
    dtype = np.dtype(kind).newbyteorder(order)
    axes = _axes(path, header)
    return RawVoxels(path, HEADER_BYTES + extended, dtype, lengths, axes)


def _refuse_stack(path: Path, header: Any, sections: int) -> None:  # noqa: ANN401
    """Refuse a file whose sections belong to several volumes."""
    spacegroup, each = int(header["ispg"]), int(header["mz"])
    if VOLUME_STACK <= spacegroup < 631 and 0 < each < sections:
        raise AxisError(
            f"{path}: {sections // each} volumes in one file (ISPG {spacegroup}); "
            "expected one: write each to its own file, or say `read_as` slices if it "
            "is one"
        )


def _unsigned_bytes(header: Any) -> bool:  # noqa: ANN401
    extra = header["extra2"].tobytes()
    order = header.dtype["mode"].byteorder
    stamp, flags = np.frombuffer(extra[40:48], np.dtype("i4").newbyteorder(order))
    return int(stamp) == IMOD_STAMP and not int(flags) & 1


def _axes(path: Path, header: Any) -> str:  # noqa: ANN401
    fields = [int(header[name]) for name in ("maps", "mapr", "mapc")]
    if fields == [0, 0, 0]:  # old writers leave them empty and mean the usual order
        return "ZYX"
    if sorted(fields) != [1, 2, 3]:
        raise FormatError(
            f"{path}: MRC fields MAPC, MAPR, MAPS are {fields[::-1]}; expected 1, 2 "
            "and 3 in some order"
        )
    return "".join("XYZ"[field - 1] for field in fields)


def _spacing(header: Any) -> tuple[Spacing | None, list[str]]:  # noqa: ANN401
    edges = []
    for cell, count in zip("zyx", ("mz", "my", "mx"), strict=True):
        intervals = int(header[count])
        length = float(header["cella"][cell])
        edges.append(length / intervals if intervals > 0 else 0.0)
    if not all(math.isfinite(edge) and edge > 0 for edge in edges):
        return None, ["the MRC cell is empty: spacing unknown"]
    if edges == [1.0, 1.0, 1.0]:
        return Spacing.of(edges, "angstrom"), [
            "spacing is exactly 1 angstrom, which many writers put when they know none"
        ]
    return Spacing.of(edges, "angstrom"), []


def _joined(labels: bytes) -> str:
    """Return the labels as one text: notes run on from one label into the next."""
    return "".join(part.decode("latin-1").rstrip("\0") for part in labels.split(b"\n"))


def _file_dtype(path: Path, dtype: np.dtype[Any]) -> np.dtype[Any]:
    kinds = {"b1": "u2", "u1": "u2"}
    key = f"{dtype.kind}{dtype.itemsize}"
    kind = kinds.get(key, key)
    if kind not in MODES.values():
        raise FormatError(
            f"{path}: MRC holds no {dtype} exactly; choose .tif, .zarr or .h5, or "
            "convert the values first"
        )
    return np.dtype(kind).newbyteorder("<")


def _new_header(layout: Layout, dtype: np.dtype[Any]) -> NDArray[Any]:
    header = np.zeros((), mrcfile.dtypes.HEADER_DTYPE.newbyteorder("<"))
    mode = {kind: mode for mode, kind in MODES.items()}
    header["mode"] = mode[f"{dtype.kind}{dtype.itemsize}"]
    for letter, length in zip("zyx", layout.shape, strict=True):
        header[f"n{letter}"] = header[f"m{letter}"] = length
        if layout.spacing is not None:
            edge = getattr(layout.spacing, letter) * 1e4
            header["cella"][letter] = edge * length
    header["cellb"]["alpha"] = header["cellb"]["beta"] = header["cellb"]["gamma"] = 90
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["ispg"] = 1
    header["map"] = b"MAP "
    header["machst"] = (0x44, 0x44, 0, 0)
    header["nversion"] = 20141
    # Statistics not measured, as the 2014 standard says it.
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0, -1, -2, -1
    text = pack_notes(layout.all_notes).encode("ascii")
    parts = [
        text[at : at + LABEL_CHARACTERS] for at in range(0, len(text), LABEL_CHARACTERS)
    ][:10]
    header["nlabl"] = len(parts)
    for index, part in enumerate(parts):
        header["label"][index] = part
    return header
