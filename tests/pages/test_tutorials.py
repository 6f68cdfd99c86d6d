"""Tutorials run from the first cell to the last, as the notebooks that they are."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from page_blocks import ROOT, TUTORIALS, blocks
from PIL import Image

pytest.importorskip("jupytext", reason="pip install '.[dev]'")
_SPEC = importlib.util.spec_from_file_location(
    "tutorials", ROOT / "docs" / "site" / "tutorials.py"
)
tutorials = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tutorials)

PAGES = sorted(TUTORIALS.glob("*.md"))
QUICK = ("monai-bundle",)


def runs(page, place):
    said = tutorials.run(page, place)
    cells = [each for each in blocks(page) if each.language in ("sh", "python")]
    assert len(said) == len([each for each in cells if not each.mark])
    for file, _, _ in tutorials.made(page).values():
        assert (place / file).stat().st_size > 1000
    return said


def test_a_bundle_is_used_in_ones_own_python(tmp_path):
    said = runs(TUTORIALS / "monai-bundle.md", tmp_path)

    assert "('background', 'cytoplasm', 'nucleus', 'mitochondrion')" in said[0]
    assert "(48, 48, 48) uint8 (4, 48, 48, 48)" in said[0]
    dice = dict(re.findall(r"^(\w+) (\d\.\d+)$", said[2], re.MULTILINE))
    assert float(dice["cytoplasm"]) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.stem not in QUICK],
    ids=lambda page: page.stem,
)
def test_a_tutorial_runs(page, tmp_path):
    said = "\n".join(runs(page, tmp_path))

    scores = {
        "first-labels": r"cytoplasm +0\.[89]",
        "correct-and-train": r"nucleus +0\.[5-9]",
        "nuclei": r"foreground +14 +1[34] ",
        "em-stack": r"new +\w+ +0\.[3-9]",
        "two-stains": r"cell_003 +both +0\.[6-9]",
        "cluster": r"every label is the same",
    }
    assert re.search(scores[page.stem], said), said


def test_a_notebook_holds_the_commands_of_its_page():
    page = TUTORIALS / "cluster.md"

    book = tutorials.notebook(page)

    cells = [each.source for each in book.cells if each.cell_type == "code"]
    assert cells[0].splitlines()[0].startswith("!cellseg3d simulate --out cells")
    assert any("LocalCluster(" in each for each in cells)
    assert not any("SLURMCluster(" in each for each in cells)
    [long] = [each for each in cells if "--dask" in each]
    assert len(long.splitlines()) == 1


def test_every_picture_is_there_and_small():
    pictures = [*(ROOT / "docs" / "images").glob("*.png")]
    made = {name for page in PAGES for name in tutorials.made(page)}

    assert {Path(name).name for name in made} <= {each.name for each in pictures}
    assert max(each.stat().st_size for each in pictures) < tutorials.LIMIT_BYTES
    assert sum(each.stat().st_size for each in pictures) < 2_000_000
    for each in pictures:
        with Image.open(each) as picture:
            assert max(picture.size) <= 1400


def test_a_cell_that_fails_is_told(tmp_path):
    page = tmp_path / "bad.md"
    page.write_text("# Bad\n\n```sh\ncellseg3d inspect nothing.tif\necho done\n```\n")

    book = tutorials.notebook(page, strict=True)

    assert book.cells[1].source.startswith("%%sh\nset -e\n")
    assert json.loads(json.dumps(book.metadata))["kernelspec"]["name"] == "python3"
