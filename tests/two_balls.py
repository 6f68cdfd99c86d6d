"""The volumes that the run in fixtures/run_before_move was trained on."""

import json

import mrcfile
import numpy as np

SIDE = 32


def two_balls(seed):
    """Return an image of two bright balls in noise and its labels, (32, 32, 32)."""
    random = np.random.RandomState(seed)  # unlike default_rng, its stream never changes
    z, y, x = np.indices((SIDE,) * 3)
    labels = np.zeros((SIDE,) * 3, np.uint8)
    for _ in range(2):
        middle, radius = random.randint(8, SIDE - 8, 3), random.randint(5, 8)
        away = (z - middle[0]) ** 2 + (y - middle[1]) ** 2 + (x - middle[2]) ** 2
        labels[away <= radius**2] = 1
    noise = random.randint(0, 60, labels.shape)
    return (60 + 60 * labels.astype(int) + noise).astype(np.uint16), labels


def write_mrc(path, array_zyx, spacing_um=0.05):
    """Write an MRC of cubic voxels."""
    with mrcfile.new(path) as file:
        file.set_data(array_zyx)
        file.voxel_size = spacing_um * 1e4  # MRC counts in Angstrom


def write_two_balls(folder):
    """Write three specimens, one for training, validation and test, as a datalist."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for seed, name in enumerate(("a", "b", "c")):
        image, labels = two_balls(seed)
        write_mrc(folder / f"{name}.mrc", image)
        write_mrc(folder / f"{name}_labels.mrc", labels.astype(np.int8))
        case = {"image": f"{name}.mrc", "label": f"{name}_labels.mrc", "group": name}
        cases.append(case)
    cases[2]["split"] = "test"
    path = folder / "datalist.json"
    datalist = {"classes": ["background", "ball"], "cases": cases}
    path.write_text(json.dumps(datalist), encoding="utf-8")
    return path
