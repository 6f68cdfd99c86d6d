"""The page holds what it should, fetches nothing, and works in a browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from report_case import NASTY, SPACING, write_case, write_run

from cellseg3d.cli.main import main
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.report import page

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
        if (found := shutil.which(name))
    ),
    None,
)
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")

# Drives the page as a reader would, and writes down what happened.
DRIVER = Path(__file__).with_name("drive_page.js")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    run = write_run(folder / "run")
    words = write_case(folder)
    out = folder / "out" / "page.html"
    code = main(["report", str(run), *words, "--objects", "--out", str(out)])
    assert code == 0
    return out


def test_every_section_that_has_data_is_there(report):
    text = report.read_text()

    for section in (
        "gallery",
        "surface",
        "objects",
        "scores",
        "sizes",
        "curves",
        "calibration",
        "training",
        "data",
        "cost",
        "methods",
        "provenance",
    ):
        assert f'<section id="{section}"' in text
    assert "abc123" in text
    assert len(text) < page.LARGEST_BYTES


def test_names_from_outside_are_shown_and_never_run(report):
    text = report.read_text()

    assert NASTY not in text
    assert "&lt;script&gt;document.title=" in text


def test_nothing_points_outside_the_file(report):
    text = report.read_text()

    assert not re.search(r"""(?:src|href)=["']?(?!data:|#)[^"'\s>]""", text)
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in text


def test_a_run_alone_makes_a_page_without_the_rest(tmp_path):
    run = write_run(tmp_path / "run")

    code = main(["report", str(run)])

    text = (run / "report.html").read_text()
    assert code == 0
    assert '<section id="training"' in text
    assert "cell01" in text
    for section in ("gallery", "surface", "objects", "scores", "curves"):
        assert f'<section id="{section}"' not in text


def test_predictions_alone_make_a_page_without_scores(tmp_path):
    words = write_case(tmp_path)
    prediction = words[words.index("--prediction") + 1]
    out = tmp_path / "page.html"

    code = main(["report", "--prediction", prediction, "--out", str(out)])

    text = out.read_text()
    assert code == 0
    assert '<section id="gallery"' in text
    assert '<section id="sizes"' in text
    for section in ("scores", "volumes", "training", "cost"):
        assert f'<section id="{section}"' not in text


def test_nothing_to_report_is_an_error(tmp_path, capsys):
    assert main(["report", "--out", str(tmp_path / "page.html")]) == 3
    assert "nothing to report" in capsys.readouterr().err


def test_a_page_that_would_be_too_large_is_thinned(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 96), np.uint8)
    labels = np.zeros(noise.shape, np.uint8)
    labels[8:20, 8:20, 8:20] = 1
    write_volume(tmp_path / "image.tif", Volume(noise, SPACING))
    write_labels(tmp_path / "labels.tif", Volume(labels, SPACING))
    words = ["--prediction", str(tmp_path / "labels.tif")]
    words += ["--image", str(tmp_path / "image.tif")]
    large, small = tmp_path / "large.html", tmp_path / "small.html"

    main(["report", *words, "--out", str(large)])
    monkeypatch.setattr(page, "LARGEST_BYTES", large.stat().st_size // 2)
    main(["report", *words, "--out", str(small)])

    assert small.stat().st_size < large.stat().st_size // 2
    assert '<section id="gallery"' in small.read_text()


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, 1), (390, 0)])
def test_the_page_works_in_a_browser(report, tmp_path, width, scheme):
    driven, script = tmp_path / "driven.html", DRIVER.read_text()
    driven.write_text(
        report.read_text().replace("<main>", f"<script>{script}</script><main>")
    )
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900",
        "--virtual-time-budget=15000",
        f"--blink-settings=preferredColorScheme={scheme}",
    ]

    done = subprocess.run(
        [CHROMIUM, *flags, driven.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    seen = json.loads(re.search(r'<pre id="seen">(.*?)</pre>', done.stdout).group(1))
    assert seen["errors"] == []
    assert "CONSOLE" not in done.stderr
    assert seen["fetched"] == []
    assert not seen["wide"]
    # Slice 4 holds box 1 (right), box 2 (missed); slice 7 nothing.
    assert all(seen["empty"][kind] == 0 for kind in ("right", "extra", "missed"))
    assert seen["slice4"]["right"] == pytest.approx(100, abs=3)
    assert seen["slice4"]["missed"] == pytest.approx(100, abs=3)
    assert seen["hidden"]["missed"] == 0
    assert seen["label4"].startswith("slice 4 of 12")
    assert seen["worst"].startswith("slice 2 of 12")
    # Box 1 (predicted and true) and box 2 (true) have 100 pixels each.
    assert seen["sides"]["image"] == 0
    assert seen["sides"]["prediction"] == pytest.approx(100, abs=3)
    assert seen["sides"]["truth"] == pytest.approx(200, abs=3)
    assert seen["sides"]["errors"] == pytest.approx(200, abs=3)
    assert seen["switched"] == 0
    assert seen["up"] == ["2", "4", "7", "9"]
    assert seen["down"] == ["9", "7", "4", "2"]
    assert seen["jumped"] == seen["place"]
    assert seen["turned"]
    assert seen["drawn"] > 2000
    assert {seen["theme"], seen["other"]} == {"light", "dark"}
    assert seen["theme"] == ("light" if scheme else "dark")
