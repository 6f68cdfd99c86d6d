"""The sdist and the wheel hold all that the package needs, and work by themselves."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cellseg3d.io.registry import read_labels

ROOT = Path(__file__).parents[2]
SOURCES = (
    *("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md"),
    *("LICENSE", "CHANGELOG.md", "CITATION.cff", "constraints.txt"),
)
WEIGHTS = Path("cell_tomo_unet3d", "models", "model.safetensors")


def run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=cwd,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The archive of sources that a release uploads."""
    folder = tmp_path_factory.mktemp("sdist")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, checkout)
    for name in ("cellseg3d", "bundles", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    code = f"from setuptools import build_meta as b; b.build_sdist({str(folder)!r})"
    run("-c", code, cwd=checkout)
    shutil.rmtree(checkout)
    [archive] = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def installed(sdist):
    """The package as pip builds a wheel of the sdist and installs it."""
    target = sdist.parent / "site"
    quiet = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    quiet += ("--no-compile",)
    run("-m", "pip", "install", *quiet, "--target", str(target), str(sdist))
    return target


def test_the_sdist_holds_what_a_checkout_builds_bundles_from(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}

    configs = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "configs").rglob("*")
        if path.is_file()
    }
    assert len(configs) > 20
    assert held >= {*SOURCES, *configs}


def test_an_installed_package_holds_every_bundle_of_the_checkout(installed):
    folder = installed / "cellseg3d" / "bundles"
    committed = [
        path.relative_to(ROOT / "bundles")
        for path in (ROOT / "bundles").rglob("*")
        if path.is_file() and path.suffix in (".json", ".conf", ".md", "")
        if path.name != ".gitignore"
    ]

    missing = [path for path in committed if not (folder / path).is_file()]

    assert len(committed) > 9 * 6
    assert missing == []
    assert (installed / "cellseg3d" / "viewer" / "napari.yaml").is_file()
    weights = ROOT / "bundles" / WEIGHTS
    assert (folder / WEIGHTS).read_bytes() == weights.read_bytes()


def test_an_installed_package_finds_its_bundles_by_name(installed):
    code = (
        "from cellseg3d.bundle.shipped import find_bundle, shipped_bundles\n"
        "print(*shipped_bundles(), sep='\\n')\n"
        "print(find_bundle('recipe_dsb2018_nuclei'))"
    )

    said = run("-P", "-c", code, PYTHONPATH=str(installed)).splitlines()

    names = sorted(path.name for path in (ROOT / "bundles").iterdir() if path.is_dir())
    assert said[: len(names)] == names
    found = installed / "cellseg3d" / "bundles" / "nuclei_unet2d"
    assert said[len(names)] == str(found)
    assert said[-1] == "the bundle recipe_dsb2018_nuclei was renamed to nuclei_unet2d"


@pytest.mark.slow
def test_an_installed_package_works_from_an_empty_folder(installed, tmp_path):
    """Without the checkout: a simulated cell, and a shipped bundle that finds it."""

    def cellseg3d(*words: str) -> str:
        place = {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
        return run("-P", "-m", "cellseg3d", *words, cwd=tmp_path, **place)

    version = cellseg3d("--version").split()[-1]
    cellseg3d("simulate", "--out", "cells", "--n", "1", "--shape", "32")
    volume, bundle = "cells/cell_000.mrc", "cell_tomo_unet3d"
    cellseg3d("predict", volume, "--bundle", bundle, "--out", "out")

    assert (installed / f"cellseg3d-{version}.dist-info").is_dir()
    found = read_labels(tmp_path / "out" / "cell_000_labels.mrc").read()
    truth = read_labels(tmp_path / "cells" / "cell_000_labels.mrc").read()
    # The bundle was trained on such cells: it finds most of this one.
    assert ((found > 0) & (truth > 0)).sum() > 0.8 * (truth > 0).sum()
