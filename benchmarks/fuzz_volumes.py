"""Intact volumes, datalists and options for fuzz.py to damage."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from fuzz_damage import Target

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.doctor.sources import read_what_reads
from cellseg3d.io.check import check_volume
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.objects.options import ObjectOptions

VOLUMES = (
    ".tif",
    ".ome.tif",
    ".nii",
    ".nii.gz",
    ".mrc",
    ".h5",
    ".zarr",
    ".png",
    "",
)
# Formats whose own checksums cover the voxels: none may change without a word.
CHECKED = (".nii.gz", ".png")


def volume_targets(folder: Path) -> list[Target]:
    """Write a small volume in each format, a datalist, and options of objects."""
    return [_volume_target(folder, suffix) for suffix in VOLUMES] + _data_targets(
        folder
    )


def _volume_target(folder: Path, suffix: str) -> Target:
    rng = np.random.default_rng(7)
    depth = 1 if suffix == ".png" else 5
    image = rng.integers(0, 200, (depth, 24, 20)).astype(np.uint8)
    spacing = Spacing(0.2, 0.1, 0.1)
    if suffix == ".png":
        spacing = Spacing(0.1, 0.1, 0.1)
    place = folder / f"volume{suffix}"
    write_volume(place, Volume(image, spacing))
    whole = place.is_dir()

    def read(path: Path) -> str | None:
        findings = check_volume(path)
        volume = findings.volume
        array = volume.read()
        digest = hashlib.sha256(array.tobytes()).hexdigest()[:12]
        told = bool(findings.warnings or volume.provenance.get("told"))
        same_shape = array.shape == image.shape
        # What neither a checksum nor a size could have told is no fault.
        checked = suffix in CHECKED or (not suffix and whole)
        wrong = not same_shape or (checked and not np.array_equal(array, image))
        mark = "silent" if wrong and not told else "said"
        return f"{mark} {array.shape} {array.dtype} {digest}"

    return Target(suffix or "slices", place, ("*",) if whole else (), read)


def _data_targets(folder: Path) -> list[Target]:
    """Return a datalist in JSON and in YAML, and options of objects."""
    place = folder / "data"
    place.mkdir()
    label = np.zeros((6, 8, 8), np.uint8)
    label[2:4, 2:6, 2:6] = 1
    cases = []
    for name in "ab":
        write_volume(place / f"{name}.tif", Volume(label * 90 + 5))
        write_labels(place / f"{name}_label.tif", Volume(label))
        cases.append(
            {
                "name": name,
                "image": f"{name}.tif",
                "label": f"{name}_label.tif",
                "group": name,
                "spacing_um": [0.2, 0.1, 0.1],
                "annotated": ["background", "cell"],
                "annotated_slices": [1, 2, 3],
                "read_as": "slices",
            }
        )
    values = {
        "name": "fuzz",
        "classes": ["background", "cell"],
        "labels": "classes",
        "label_map": {"1": 1},
        "intensity_unit": "arbitrary",
        "cases": cases,
    }
    (place / "list.json").write_text(json.dumps(values))
    (place / "list.yaml").write_text(yaml.safe_dump(values))
    options = folder / "options.json"
    options.write_text(json.dumps({"options": ObjectOptions().as_dict()}))

    def read(name: str) -> Callable[[Path], None]:
        def look(path: Path) -> None:
            read_what_reads(path / name)
            load_datalist(path / name)

        return look

    return [
        Target("list.json", place, ("list.json",), read("list.json")),
        Target("list.yaml", place, ("list.yaml",), read("list.yaml")),
        Target("options.json", options, (), _read_options),
    ]


def _read_options(path: Path) -> None:
    ObjectOptions.read(path)
