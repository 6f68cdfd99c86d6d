"""The plugin in a real viewer. Without a screen: xvfb-run make slow."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from small_bundle import small_bundle
from two_stains import NAMES, two_stains, write_set, write_stains

import cellseg3d
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import read_labels, write_volume

pytestmark = pytest.mark.slow
# napari has threads and windows of its own, so it runs in a process of its own.
SESSION = """
import sys, time
import numpy as np
import napari
from qtpy.QtWidgets import QApplication
folder = sys.argv[1]
viewer = napari.Viewer(show=True)
viewer.window.resize(1300, 800)
[image] = viewer.open(f"{folder}/cells.mrc", plugin="cellseg3d")
assert image.units[0] == "micrometer", image.units
_, segment = viewer.window.add_plugin_dock_widget("cellseg3d", "Segment")

def wait(work, seconds=120):
    end = time.time() + seconds
    while work.busy and time.time() < end:
        QApplication.processEvents()
        time.sleep(0.02)
    assert not work.busy, work.said.value

segment.run.value = f"{folder}/bundle"
segment.uncertainty.value = True
segment.work.start.native.click()
assert segment.work.busy
assert not segment.work.start.enabled
wait(segment.work)
assert segment.work.said.value == "done", segment.work.said.value
names = [layer.name for layer in viewer.layers]
assert names == ["cells", "cells labels", "cells uncertainty"], names
labels = viewer.layers["cells labels"]
np.save(f"{folder}/labels.npy", np.asarray(labels.data))
np.testing.assert_allclose(labels.scale, image.scale)

# Stopped before it began: nothing is added.
segment.work.start.native.click()
segment.work.stop.native.click()
wait(segment.work)
assert segment.work.said.value == "stopped", segment.work.said.value
assert len(viewer.layers) == 3

segment.run.value = f"{folder}/absent"
errors = []
import cellseg3d.viewer.work as module
module.show_error = errors.append
segment.work.start.native.click()
wait(segment.work)
assert errors and "absent" in errors[0], errors

_, review = viewer.window.add_plugin_dock_widget("cellseg3d", "Correct and train again")
review.bundle.value = f"{folder}/bundle"
review.out.value = f"{folder}/review"
review.count.value = 2
review.image.value = image
review.pick.start.native.click()
wait(review.pick)
assert review.pick.said.value == "done", review.pick.said.value
first = viewer.layers["labels to correct"]
first.data[...] = 1 - first.data
assert [layer.name for layer in viewer.layers if layer.visible] == [
    "piece", "labels to correct"]
for _ in range(20):
    QApplication.processEvents()
viewer.window.screenshot(f"{folder}/window.png", flash=False)
review.keep.native.click()
review.keep.native.click()
assert review.where.value.startswith("That was the last"), review.where.value
assert review.train.start.enabled
assert "labels to correct" not in viewer.layers
viewer.open_sample("cellseg3d", "cell")
assert "simulated cell" in viewer.layers
viewer.close()
print("all done")
"""

# Two stains: labels, a correction, and a training that starts from the viewer.
STAINED_SESSION = """
import sys, time
import numpy as np
import napari
from qtpy.QtWidgets import QApplication
folder = sys.argv[1]
viewer = napari.Viewer(show=True)
viewer.window.resize(1300, 900)
layers = viewer.open(f"{folder}/cell.ome.tif", plugin="cellseg3d")
names = [layer.name for layer in layers]
assert names == ["cell, DAPI", "cell, actin"], names

def wait(work, seconds=200):
    end = time.time() + seconds
    while work.busy and time.time() < end:
        QApplication.processEvents()
        time.sleep(0.02)
    assert not work.busy, work.said.value

_, segment = viewer.window.add_plugin_dock_widget("cellseg3d", "Segment")
segment.run.value = f"{folder}/run"
segment.image.value = layers[1]
viewer.layers.selection.clear()
segment.work.start.native.click()
wait(segment.work)
assert segment.work.said.value == "done", segment.work.said.value
labels = viewer.layers[-1]
np.save(f"{folder}/labels.npy", np.asarray(labels.data))
viewer.dims.set_current_step(0, 6)
for _ in range(20):
    QApplication.processEvents()
viewer.window.screenshot(f"{folder}/stains.png", flash=False)

_, review = viewer.window.add_plugin_dock_widget("cellseg3d", "Correct and train again")
review.bundle.value = f"{folder}/run"
review.out.value = f"{folder}/review"
review.count.value = 1
review.image.value = layers[0]
review.pick.start.native.click()
wait(review.pick)
assert review.pick.said.value == "done", review.pick.said.value
for _ in range(20):
    QApplication.processEvents()
viewer.window.screenshot(f"{folder}/piece.png", flash=False)
review.keep.native.click()
assert review.where.value.startswith("That was the last"), review.where.value
review.minutes.value = 0.1
review.train.start.native.click()
wait(review.train)
assert review.train.said.value.startswith("trained"), review.train.said.value
assert review.bundle.value == f"{folder}/review_run", review.bundle.value
viewer.close()
print("all done")
"""


@pytest.fixture
def screen():
    # Importing napari here would count the warnings of its own packages as errors.
    if find_spec("napari") is None:
        pytest.skip("pip install 'cellseg3d[napari]' PyQt6")
    if not os.environ.get("DISPLAY"):
        pytest.skip("no screen; run it under xvfb-run")


def test_the_manifest_is_valid():
    pytest.importorskip("npe2", reason="pip install 'cellseg3d[napari]'")
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", "cellseg3d"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid" in done.stdout


def drive(session, folder):
    """Run a session with a viewer in a process of its own, on files of a folder."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", session, str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=400,
        env=os.environ | {"NAPARI_CONFIG": str(folder / "settings.yaml")},
    )
    assert done.stdout.endswith("all done\n"), done.stderr[-3000:]


def test_a_user_opens_segments_stops_and_corrects(screen, tmp_path):
    array = np.random.default_rng(0).normal(100, 20, (8, 64, 80)).astype(np.float32)
    write_volume(tmp_path / "cells.mrc", Volume(array, Spacing(0.2, 0.1, 0.1)))
    small_bundle(tmp_path / "bundle")

    drive(SESSION, tmp_path)

    labels = np.load(tmp_path / "labels.npy")
    assert labels.shape == array.shape
    assert 0 < labels.mean() < 1
    corrected = sorted((tmp_path / "review").glob("*_labels.tif"))
    before = sorted((tmp_path / "review" / "predicted").glob("*_labels.tif"))
    first = [read_labels(each[0]).read() for each in (corrected, before)]
    np.testing.assert_array_equal(first[0], 1 - first[1])
    seen = (tmp_path / "review" / "seen.csv").read_text(encoding="utf-8")
    assert seen.count(",yes") == 2


def test_two_stains_are_segmented_corrected_and_trained_on(screen, tmp_path):
    image, _ = two_stains(5)
    write_stains(tmp_path / "cell.ome.tif", image)
    short = {"train::dataset::samples": 4}
    options = cellseg3d.TrainOptions(
        epochs=1, seed=1, settings=short, progress=False, calibrate=False
    )
    data = write_set(tmp_path / "data", channels=2)
    run = cellseg3d.train("cell_tomo_unet2d", data, tmp_path / "run", options)

    drive(STAINED_SESSION, tmp_path)

    both = cellseg3d.open_volume(tmp_path / "cell.ome.tif", channels="all")
    expected = cellseg3d.segment(both, cellseg3d.load_model(run)).labels.read()
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), expected)
    again = cellseg3d.load_model(tmp_path / "review_run")
    assert again.channels == NAMES
