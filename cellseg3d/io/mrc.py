"""Read and write MRC and REC files: electron and X-ray tomograms."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import mrcfile.dtypes
import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import FormatError
from cellseg3d.core.roi import zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.layout import (
    Layout,
    Request,
    Sink,
    check_unfinished,
    pack_notes,
    refuse_leading,
    split_unit,
    unpack_notes,
)
from cellseg3d.io.lazy import RawVoxels
from cellseg3d.io.output.raw_sink import RawSink
from cellseg3d.io.picking import pick_axes

Order = Literal["<", ">"]
_ORDERS: tuple[Order, Order] = ("<", ">")

HEADER_BYTES = 1024
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
# The mark of IMOD's files. Their bytes are unsigned unless the first flag is set.
IMOD_STAMP = 1146047817
VOLUME_STACK = 401
LABEL_CHARACTERS = 80


def open_file(path: Path, request: Request) -> Volume:
    """Open an MRC file of mode 0, 1, 2, 6 or 12 without reading its voxels.

    Both byte orders are read. The volume is (z, y, x), whatever axes the columns, rows
    and sections are (fields MAPC, MAPR, MAPS).

    Raises
    ------
    FormatError
        If a header field is invalid, or the file is shorter than its header states.
    AxisError
        If the file holds several volumes and none is chosen.
    """
    header, order = _read_header(path)
    voxels = _voxels(path, header, order)
    if request.read_as is None:
        voxels = _volumes_apart(header, voxels)
    axes, picked = pick_axes(path, voxels.axes, voxels.shape, request)
    voxels = replace(voxels, axes=axes, picked=picked)
    found = path.stat().st_size
    if found < voxels.end:
        raise FormatError(
            f"{path}: is incomplete, with {found} of {voxels.end} bytes; copy it again"
        )
    spacing, warnings = _spacing(header)
    if _unsigned_by_range(header):
        warnings.append(
            f"its bytes are read as 0..255, since its header states values up to "
            f"{float(header['dmax']):g}"
        )
    if found > voxels.end:
        warnings.append(f"{found - voxels.end} unknown bytes follow the last voxel")
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
    """Write the header of an MRC file and return the writer of its voxels.

    The file is little endian, and X is its fastest axis. Values of uint8 are written
    as uint16 (mode 6), since MRC has no unsigned bytes.

    Raises
    ------
    FormatError
        If MRC has no mode that holds this dtype exactly.
    """
    refuse_leading(path, layout, "MRC")
    dtype = _file_dtype(path, layout.dtype)
    header = _new_header(layout, dtype)
    path.write_bytes(header.tobytes())
    return RawSink(path, HEADER_BYTES, dtype, layout.shape)


def resume(path: Path, layout: Layout) -> Sink:
    """Return a writer that goes on with an unfinished file.

    Raises
    ------
    FormatError
        If the file has another shape or dtype.
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
            f"{path}: is incomplete, with {len(data)} of the {HEADER_BYTES} bytes of "
            "an MRC header; copy it again"
        )
    dtype = mrcfile.dtypes.HEADER_DTYPE
    readings: list[tuple[Any, Order]] = [
        (np.frombuffer(data, dtype.newbyteorder(order))[0], order) for order in _ORDERS
    ]
    # The machine stamp is often wrong. In the wrong byte order the mode is above 255,
    # unless it is 0: then the number of an axis shows the order.
    likely = [each for each in readings if 0 <= int(each[0]["mode"]) < 256]
    sure = [each for each in likely if 0 <= int(each[0]["mapc"]) <= 3]
    if not likely:
        raise FormatError(
            f"{path}: its MRC field MODE is {int(readings[0][0]['mode'])}; expected "
            f"one of {', '.join(map(str, MODES))}; copy it again or export it as TIFF"
        )
    return (sure or likely)[0]


def _voxels(path: Path, header: Any, order: Order) -> RawVoxels:  # noqa: ANN401
    mode = int(header["mode"])
    if mode not in MODES:
        raise FormatError(
            f"{path}: its MRC field MODE is {mode}; expected one of "
            f"{', '.join(map(str, MODES))}, since complex and packed data cannot be "
            "read; export real numbers"
        )
    lengths = [int(header[name]) for name in ("nz", "ny", "nx")]
    for name, length in zip(("NZ", "NY", "NX"), lengths, strict=True):
        if length < 1:
            raise FormatError(
                f"{path}: its MRC field {name} is {length}; expected 1 or more; copy "
                "it again"
            )
    extended = int(header["nsymbt"])
    if extended < 0:
        raise FormatError(
            f"{path}: its MRC field NSYMBT is {extended}; expected 0 or more; copy it "
            "again"
        )
    unsigned = _unsigned_bytes(header) or _unsigned_by_range(header)
    kind = "u1" if mode == 0 and unsigned else MODES[mode]
    dtype = np.dtype(kind).newbyteorder(order)
    axes = _axes(path, header)
    return RawVoxels(path, HEADER_BYTES + extended, dtype, lengths, axes)


def _volumes_apart(header: Any, voxels: RawVoxels) -> RawVoxels:  # noqa: ANN401
    """Return voxels with an axis T in front if the file is a stack of volumes."""
    spacegroup, each, sections = int(header["ispg"]), int(header["mz"]), voxels.shape[0]
    stacked = VOLUME_STACK <= spacegroup < 631 and 0 < each < sections
    if not stacked or sections % each:
        return voxels
    shape = [sections // each, each, *voxels.shape[1:]]
    return replace(voxels, shape=shape, axes=f"T{voxels.axes}")


def _unsigned_bytes(header: Any) -> bool:  # noqa: ANN401
    stamp, flags = _imod(header)
    return stamp == IMOD_STAMP and not flags & 1


def _unsigned_by_range(header: Any) -> bool:  # noqa: ANN401
    """Return whether a header without IMOD's mark states bytes above 127.

    The standard says that bytes are signed, but older programs wrote 0 to 255.
    """
    least, most = float(header["dmin"]), float(header["dmax"])
    plain = int(header["mode"]) == 0 and _imod(header)[0] != IMOD_STAMP
    return plain and least >= 0 and 127 < most <= 255


def _imod(header: Any) -> tuple[int, int]:  # noqa: ANN401
    """Return the mark of IMOD and its flags, or what else is in their place."""
    extra = header["extra2"].tobytes()
    order = header.dtype["mode"].byteorder
    stamp, flags = np.frombuffer(extra[40:48], np.dtype("i4").newbyteorder(order))
    return int(stamp), int(flags)


def _axes(path: Path, header: Any) -> str:  # noqa: ANN401
    fields = [int(header[name]) for name in ("maps", "mapr", "mapc")]
    if fields == [0, 0, 0]:  # old programs leave the usual order out
        return "ZYX"
    if sorted(fields) != [1, 2, 3]:
        raise FormatError(
            f"{path}: its MRC fields MAPC, MAPR, MAPS are {fields[::-1]}; expected 1, "
            "2 and 3 in some order; copy it again"
        )
    return "".join("XYZ"[field - 1] for field in fields)


def _spacing(header: Any) -> tuple[Spacing | None, list[str]]:  # noqa: ANN401
    edges = []
    for cell, count in zip("zyx", ("mz", "my", "mx"), strict=True):
        intervals = int(header[count])
        length = float(header["cella"][cell])
        edges.append(length / intervals if intervals > 0 else 0.0)
    if not all(math.isfinite(edge) and edge > 0 for edge in edges):
        return None, ["its MRC header states no cell size, so its spacing is unknown"]
    if edges == [1.0, 1.0, 1.0]:
        return Spacing.of(edges, "angstrom"), [
            "its spacing is exactly 1 angstrom, which many programs write if they know "
            "none"
        ]
    return Spacing.of(edges, "angstrom"), []


def _joined(labels: bytes) -> str:
    """Return the labels of the header as one text, since notes may need several."""
    return "".join(part.decode("latin-1").rstrip("\0") for part in labels.split(b"\n"))


def _file_dtype(path: Path, dtype: np.dtype[Any]) -> np.dtype[Any]:
    kinds = {"b1": "u2", "u1": "u2"}
    key = f"{dtype.kind}{dtype.itemsize}"
    kind = kinds.get(key, key)
    if kind not in MODES.values():
        raise FormatError(
            f"{path}: MRC cannot hold {dtype} exactly; choose .tif, .zarr or .h5, or "
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
    # These values say that the statistics are unknown (MRC2014 standard).
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0, -1, -2, -1
    text = pack_notes(layout.all_notes).encode("ascii")
    parts = [
        text[at : at + LABEL_CHARACTERS] for at in range(0, len(text), LABEL_CHARACTERS)
    ][:10]
    header["nlabl"] = len(parts)
    for index, part in enumerate(parts):
        header["label"][index] = part
    return header
