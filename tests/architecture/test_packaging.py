import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
WEIGHTS = Path("cell_tomo_unet3d", "models", "model.safetensors")


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as pip installs it, without its checkout."""
    folder = tmp_path_factory.mktemp("install")
    checkout, target = folder / "checkout", folder / "site"
    checkout.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, checkout)
    for name in ("cellseg3d", "bundles"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    weights = checkout / "bundles" / WEIGHTS
    weights.parent.mkdir(exist_ok=True)
    weights.write_bytes(b"weights")
    quiet = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    quiet += ("--no-compile",)
    run("-m", "pip", "install", *quiet, "--target", str(target), str(checkout))
    shutil.rmtree(checkout)
    return target


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
    assert (folder / WEIGHTS).read_bytes() == b"weights"


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
    assert said[-1] == "the bundle recipe_dsb2018_nuclei is called nuclei_unet2d today"
