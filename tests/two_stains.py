"""Volumes of two stains whose objects of interest are those that both stains show."""

import json
from pathlib import Path

import tifffile

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels
from cellseg3d.simulate.stains import STAINS, simulate_stains

NAMES = STAINS
SPACING = Spacing(0.2, 0.1, 0.1)


def two_stains(seed, shape=(12, 48, 48)):
    """Return an image (2, Z, Y, X) of uint16 and the balls that both stains show."""
    case = simulate_stains(shape, seed, SPACING.x, balls=12)
    return case.image.read(), case.labels.read()


def write_stains(path: Path, image, names=NAMES) -> Path:
    """Write a volume of several channels as OME-TIFF with their names."""
    about = {"axes": "CZYX", "Channel": {"Name": list(names)}}
    for letter, edge in zip("ZYX", SPACING.zyx, strict=True):
        about[f"PhysicalSize{letter}"] = edge
        about[f"PhysicalSize{letter}Unit"] = "µm"
    tifffile.imwrite(path, image, ome=True, metadata=about, photometric="minisblack")
    return path


def write_set(folder: Path, volumes=3, channels=2, **options) -> Path:
    """Write a datalist of volumes of two stains; the last validates."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for seed in range(volumes):
        image, label = two_stains(seed, **options)
        write_stains(folder / f"v{seed}.ome.tif", image)
        write_labels(folder / f"v{seed}_label.tif", Volume(label, SPACING))
        split = "validation" if seed == volumes - 1 else "training"
        cases.append(
            {
                "image": f"v{seed}.ome.tif",
                "label": f"v{seed}_label.tif",
                "split": split,
                "name": f"v{seed}",
            }
        )
    key = "channels" if isinstance(channels, list | int) else "channel"
    values = {"classes": ["background", "both"], key: channels, "cases": cases}
    place = folder / "datalist.json"
    place.write_text(json.dumps(values), encoding="utf-8")
    return place
