"""ImageJ reads labels with colours, range and units, and writes them back."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from balls import write_balls
from small_models import small_model
from two_stains import NAMES, two_stains, write_stains

from cellseg3d.core.colours import colour_of
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import read_labels, write_labels
from cellseg3d.review.merge import reviewed_pieces
from cellseg3d.review.pieces import MACRO, load_review
from cellseg3d.review.prepare import ReviewOptions, prepare_review

JAR = Path("/usr/share/java/ij.jar")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (JAR.is_file() and shutil.which("xvfb-run") and shutil.which("java")),
        reason="no ImageJ (Debian: imagej xvfb xauth) on this machine",
    ),
]
LOOK = """
Stack.getDimensions(w, h, c, s, f); getVoxelSize(x, y, z, unit); getMinAndMax(a, b);
getLut(r, g, bl);
say("shape=" + w + "," + h + "," + c + "," + s + "," + f + " voxel=" + x + "," + y
    + "," + z + "," + unit + " range=" + a + "," + b + " bits=" + bitDepth());
for (i = 0; i < 256; i++) say("colour " + i + "=" + r[i] + "," + g[i] + "," + bl[i]);
"""


def imagej(folder, body):
    """Run the body of a macro in ImageJ; return what it says."""
    script, said = folder / "script.ijm", folder / "said.txt"
    say = f'function say(text) {{ File.append(text, "{said}"); }}\n'
    script.write_text(f'{body}\nsay("the end");\n{say}')
    words = ["xvfb-run", "-a", "java", f"-Duser.home={folder}", "-cp", str(JAR)]
    # ImageJ stays open after a macro, so it is ended here.
    running = subprocess.Popen(
        [*words, "ij.ImageJ", "-macro", str(script)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(400):
            text = said.read_text(encoding="utf-8") if said.is_file() else ""
            if "the end" in text or running.poll() is not None:
                break
            time.sleep(0.1)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert "the end" in text
    return text


@pytest.mark.parametrize(
    ("largest", "depth", "bits"), [(3, 5, 8), (255, 1, 8), (300, 5, 16), (900, 1, 16)]
)
def test_imagej_sees_colours_range_and_units(tmp_path, largest, depth, bits):
    labels = np.zeros((depth, 6, 7), np.uint16)
    labels[-1, 2, 3] = largest
    write_labels(
        tmp_path / "a.tif", Volume(labels.astype(f"u{bits // 8}"), Spacing(3, 0.2, 0.1))
    )

    said = imagej(tmp_path, f'open("{tmp_path / "a.tif"}");{LOOK}')

    assert f"shape=7,6,1,{depth},1 voxel=0.1,0.2,3," in said
    assert re.search(r"voxel=\S+,(µm|um|micron) ", said)
    assert f"range=0,{max(largest, 255)} bits={bits}" in said
    colours = dict(re.findall(r"colour (\d+)=(\S+)", said))
    for value in (0, 1, 2, 7, 8):
        assert colours[str(value)] == ",".join(map(str, colour_of(value)))
    assert colours["255"] == ("90,90,90" if bits == 8 else "0,158,115")


def test_a_piece_is_corrected_and_saved_as_it_was(tmp_path):
    write_balls(tmp_path, cases=2, side=20)
    model = small_model(dims=2, classes=3)
    model.classes = ("background", "shell", "core")
    place = tmp_path / "review"
    volumes = [str(tmp_path / f"ball{number}.mrc") for number in range(2)]
    prepare_review(volumes, [model], place, ReviewOptions(n=4, size=16))
    first = load_review(place).pieces[0]
    before = read_labels(first.labels_file(place))
    body = f"""
call("ij.Prefs.set", "cellseg3d.review", "{place}/");
run("Install...", "install={place / MACRO}");
run("Open the next piece [n]");
say("overlays=" + Overlay.size);
makeRectangle(2, 3, 4, 2);
run("Paint value 2 [2]");
run("Paint 255, not annotated [9]");
makeRectangle(0, 0, 1, 1);
run("Fill", "slice");
run("Select None");
run("Open the next piece [n]");
say("title=" + getTitle() + " windows=" + nImages);
"""

    said = imagej(tmp_path, body)

    after = read_labels(first.labels_file(place))
    expected = before.read().copy()
    expected[0, 3:5, 2:6] = 2
    expected[0, 0, 0] = 255
    np.testing.assert_array_equal(after.read(), expected)
    # ImageJ writes five digits, and no depth of a single slice.
    assert after.spacing.zyx[1:] == pytest.approx(before.spacing.zyx[1:], rel=1e-4)
    assert after.dtype == before.dtype
    second = load_review(place).pieces[1].labels_file(place).name
    assert "overlays=1" in said
    assert f"title={second} windows=2" in said
    assert [each.piece.name for each in reviewed_pieces(load_review(place))] == [
        first.name
    ]


def test_a_piece_of_two_channels_opens_in_colours_under_the_labels(tmp_path):
    image, _ = two_stains(1, shape=(6, 24, 20))
    place = write_stains(tmp_path / "cell.ome.tif", image)
    model, review = small_model(dims=3, channels=NAMES), tmp_path / "review"
    prepare_review([str(place)], [model], review, ReviewOptions(n=1, size=16))
    (piece,) = load_review(review).pieces
    body = f"""
call("ij.Prefs.set", "cellseg3d.review", "{review}/");
run("Install...", "install={review / MACRO}");
run("Open the next piece [n]");
say("overlays=" + Overlay.size);
selectWindow("{piece.name}.tif");
Stack.getDimensions(w, h, c, s, f);
Stack.getDisplayMode(mode);
say("channels=" + c + " slices=" + s + " mode=" + mode);
"""

    said = imagej(tmp_path, body)

    assert "overlays=1" in said
    assert "channels=2 slices=1 mode=composite" in said
