"""Compare how long cellseg3d and scikit-image take to measure many objects.

    python benchmarks/measure.py --objects 1000000 --json measure.json

Both measure volume, bounding box, centroid, mean and standard deviation of intensity,
principal axes and mesh area of the same labels. regionprops loops over objects, so it
is timed on a smaller volume, and the time for each object is compared. The script
stops if volumes, centroids or intensities do not agree.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes, mesh_surface_area, regionprops

from cellseg3d.core.processes import processor_name
from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.morphometry import measure_objects

SPACING = Spacing(0.06, 0.04, 0.04)
CELL = 6


def balls(count: int) -> NDArray[np.uint32]:
    """Return at least `count` balls on a lattice, each with an id of its own."""
    side = round(count ** (1 / 3) + 0.499)
    z, y, x = np.ogrid[:CELL, :CELL, :CELL]
    middle = (CELL - 1) / 2
    ball = (z - middle) ** 2 + (y - middle) ** 2 + (x - middle) ** 2 <= 9
    ids = np.arange(1, side**3 + 1, dtype=np.uint32).reshape(side, side, side)
    spread = np.kron(ids, np.ones((CELL, CELL, CELL), np.uint32))
    return spread * np.tile(ball, (side, side, side))


def with_regionprops(
    labels: NDArray[np.uint32], image: NDArray[np.float32]
) -> list[tuple[float, ...]]:
    """Return what regionprops and marching cubes measure of each object."""
    rows = []
    for each in regionprops(labels, image, spacing=SPACING.zyx):
        padded = np.pad(each.image, 1).astype(np.float32)
        corners, faces, _, _ = marching_cubes(padded, 0.5, spacing=SPACING.zyx)
        rows.append(
            (
                each.area,
                *each.centroid,
                each.intensity_mean,
                each.intensity_std,
                each.axis_major_length,
                each.axis_minor_length,
                mesh_surface_area(corners, faces),
                *each.bbox,
            )
        )
    return rows


def check(table: dict[str, NDArray[np.generic]], rows: list[tuple[float, ...]]) -> None:
    """Stop unless both gave the same volumes, centroids and intensities."""
    names = [
        "volume_um3",
        *(f"centroid_{letter}_um" for letter in "zyx"),
        "mean_intensity",
        "sd_intensity",
    ]
    ours = np.stack([table[name][: len(rows)] for name in names], axis=1)
    theirs = np.array([row[: len(names)] for row in rows])
    # The image is in single precision, which limits how well the numbers agree.
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--compared", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    labels = balls(options.objects)
    rng = np.random.default_rng(0)
    image = rng.normal(0.3, 0.05, labels.shape).astype(np.float32)
    few = balls(options.compared)
    few_image = image[tuple(slice(length) for length in few.shape)]

    start = time.perf_counter()
    table = measure_objects(labels, SPACING, image)
    ours_s = time.perf_counter() - start
    start = time.perf_counter()
    rows = with_regionprops(few, few_image)
    theirs_s = time.perf_counter() - start
    check(measure_objects(few, SPACING, few_image), rows)

    found = len(table["id"])
    per_object = ours_s / found, theirs_s / len(rows)
    result = {
        "machine": processor_name(),
        "voxels": labels.size,
        "objects": found,
        "cellseg3d_s": round(ours_s, 2),
        "cellseg3d_us_per_object": round(per_object[0] * 1e6, 1),
        "regionprops_objects": len(rows),
        "regionprops_s": round(theirs_s, 2),
        "regionprops_us_per_object": round(per_object[1] * 1e6, 1),
        "ratio": round(per_object[1] / per_object[0], 1),
        "peak_gib": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2
        ),
    }
    for name, value in result.items():
        print(f"{name}: {value}")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
