"""Say what to do with a file of a format that is not read here."""

from pathlib import Path

_MICROSCOPES = (
    ".czi .lif .nd2 .oib .oif .oir .vsi .dm3 .dm4 .ser .emd .am .txm .txrm .xrm .svs "
    ".ndpi .scn .mrxs .klb .sld .zvi .companion.ome"
)
_PACKED = ".gz .bz2 .xz .zst .zip .tar .tgz .7z .rar"
_PICTURES = ".jpg .jpeg .gif .bmp .webp"
_MEDICAL = ".nrrd .nhdr .mha .mhd .dcm .gipl .img .hdr .mnc .mgz .mgh"
_OTHER_PICTURES = ".jp2 .j2k .exr .eps .pdf .svg"
_WAYS: dict[str, str] = {
    _MICROSCOPES: "export it as OME-TIFF, for instance with Bio-Formats in Fiji",
    _PACKED: "unpack it first",
    _PICTURES: "save it as PNG or TIFF",
    _MEDICAL: "save it as .nii.gz",
    _OTHER_PICTURES: "save it as PNG or TIFF",
    ".raw .vol .dat .bin": "it states no shape; save it as .tif, .mrc or .h5",
    ".npy .npz": "write it with cellseg3d.write_volume",
    ".mat": "MATLAB turns the axes around; save it as .tif",
    ".csv .txt .xlsx .json .xml .yaml .yml": "it is no volume; name a volume",
}


def misnamed(path: Path) -> bool:
    """Return whether a volume of this name was surely renamed by mistake."""
    return path.suffix.lower() in _PICTURES.split()


def way_out(path: Path) -> str:
    """Return what to do with a file by its suffix; ``""`` if nothing is known."""
    name = path.name.lower()
    for suffixes, way in _WAYS.items():
        if name.endswith(tuple(suffixes.split())):
            return way
    return ""


def is_image(path: Path) -> bool:
    """Return whether a file is named as an image of a format that is not read."""
    kinds = (_MICROSCOPES, _PICTURES, _MEDICAL, _OTHER_PICTURES)
    return path.name.lower().endswith(tuple(" ".join(kinds).split()))


def strangers_in(folder: Path) -> str:
    """Return a sentence about the files of a folder without volumes.

    It says what to do with the first file of a known format.
    """
    files = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".")
    )
    if not files:
        return ""
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    names = ", ".join(path.name for path in files[:3])
    way = next(filter(None, map(way_out, files)), "")
    return f"it holds {names}{more}" + (f": {way}" if way else "")
