"""A run folder and two volumes with known mistakes, small enough for every test."""

import json

import numpy as np

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume

SPACING = Spacing(0.2, 0.1, 0.1)
NASTY = "<script>document.title='hacked'</script>&amp;"


def true_ids():
    """Three boxes: ids 1, 2, 3."""
    truth = np.zeros((12, 30, 40), np.uint8)
    truth[2:6, 4:14, 4:14] = 1
    truth[2:6, 4:14, 20:30] = 2
    truth[8:11, 18:28, 5:25] = 3
    return truth


def predicted_ids():
    """Box 1 right, box 2 missed, box 3 shifted by one voxel, and a false one."""
    predicted = np.zeros((12, 30, 40), np.uint8)
    predicted[2:6, 4:14, 4:14] = 7
    predicted[8:11, 18:28, 6:26] = 9
    predicted[1:3, 20:25, 30:36] = 4
    return predicted


def write_case(folder, name="cell07"):
    """Write image, prediction, truth and probabilities; return the CLI's words."""
    truth, predicted = true_ids(), predicted_ids()
    noise = np.random.default_rng(0).normal(0, 9, truth.shape)
    image = np.clip(60 + 120 * (truth > 0) + noise, 0, 255).astype(np.uint8)
    probs = np.where(predicted > 0, 0.8, 0.1).astype(np.float32)
    paths = {
        kind: folder / f"{name}_{kind}.tif" for kind in ("image", "truth", "probs")
    }
    paths["prediction"] = folder / f"{name}.tif"
    write_volume(paths["image"], Volume(image, SPACING))
    write_volume(paths["probs"], Volume(probs, SPACING))
    write_labels(paths["truth"], Volume(truth, SPACING))
    write_labels(paths["prediction"], Volume(predicted, SPACING))
    return [word for kind, path in paths.items() for word in (f"--{kind}", str(path))]


def write_run(folder):
    """Write a run record in the form that the training writes."""
    folder.mkdir()
    history = [
        {"epoch": e, "iteration": 10 * e, "loss": 1 / e, "learning_rate": 0.001}
        for e in range(1, 5)
    ]
    for row, score in ((history[1], 0.5), (history[3], 0.4)):
        row |= {"score": score, "scores": {"dice": {"cell01": {"cell": score}}}}
    record = {
        "state": "completed",
        "versions": {"cellseg3d": "0.1.0", "python": "3.11", "torch": "2.13"},
        "git_commit": "abc123",
        "machine": {"system": "Linux", "threads": 2, "gpu": None},
        "seed": 3,
        "data": {
            "classes": ["background", "cell"],
            "training": ["cell02", "cell03"],
            "validation": ["cell01"],
            "content": {"cell01": "00ff"},
        },
        "warnings": [NASTY],
        "iteration": 40,
        "epoch": 4,
        "best_score": 0.5,
        "best_iteration": 20,
        "history": history,
        "cost": {"wall_s": 90.0, "cpu_s": 170.0, "peak_gib": 1.25},
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder
