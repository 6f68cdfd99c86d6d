"""Volumes of two stains whose objects of interest are those that both stains show."""

import json
from pathlib import Path

import numpy as np
import tifffile

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels

NAMES = ("DAPI", "actin")
SPACING = Spacing(0.2, 0.1, 0.1)


def two_stains(seed, shape=(12, 48, 48), balls=12, radius=5):
    """Return an image (2, Z, Y, X) of uint16 and the balls that both stains show.

    A third of the balls is in the first stain alone, a third in the second alone, so
    that no stain tells which balls belong to the class.
    """
    random = np.random.default_rng(seed)
    stains = random.normal([[[[300]]], [[[2000]]]], [[[[40]]], [[[90]]]], (2, *shape))
    label = np.zeros(shape, np.uint8)
    grid = np.indices(shape)
    for number in range(balls):
        centre = [random.integers(0, side) for side in shape]
        squares = [(g - c) ** 2 for g, c in zip(grid, centre, strict=True)]
        inside = (sum(squares) <= radius**2) & (label == 0)
        kind = number % 3
        stains[0][inside & (kind != 1)] += 500
        stains[1][inside & (kind != 0)] += 1500
        label[inside] = 1 if kind == 2 else 2
    return stains.clip(0, 65535).astype(np.uint16), (label == 1).astype(np.uint8)


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
