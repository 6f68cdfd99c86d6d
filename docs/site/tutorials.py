"""Tutorials are pages and notebooks at once: read, run, and take their pictures.

A tutorial is a page in jupytext's Markdown, in which each block of shell or Python is a
cell. ``python docs/site/tutorials.py`` runs every tutorial and makes the pictures of
the pages anew; names of tutorials run these alone. A comment before a picture names the
file that the commands wrote: ``<!-- made: cell.png -->``. A web page becomes a picture
of what Chromium shows of it.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "tutorials"
LIMIT_BYTES = 200_000
_MADE = re.compile(r"<!-- made: (\S+?)(?: (\d+)x(\d+))? -->\n!\[[^\]]*\]\((\S+)\)")
_NOT_RUN = re.compile(r"(<!-- not run: [^\n]* -->\n```)(?:sh|python)\n")
# Without it, the language of the first cell would be that of the notebook.
_HEAD = """---
jupyter:
  kernelspec: {name: python3, display_name: Python 3, language: python}
---
"""
# A kernel asks for colours, and the progress bar of a terminal comes with them.
_STRICT = "%%sh\nset -e\nunset FORCE_COLOR CLICOLOR_FORCE\n"
_RUNNER = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], 4)
client = nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3")
client.startup_timeout = 600  # a busy machine needs longer than the usual minute
client.execute()
nbformat.write(notebook, sys.argv[1])
"""


def notebook(page: Path, *, strict: bool = False) -> Any:  # noqa: ANN401
    """Return the notebook that a page is.

    Parameters
    ----------
    page : Path
        The Markdown file.
    strict : bool
        Whether a cell of several commands ends where one fails, as in a test.
    """
    text = _NOT_RUN.sub(r"\1text\n", page.read_text(encoding="utf-8"))
    book = jupytext.reads(_HEAD + text, "md")
    for cell in book.cells:
        if cell.source.startswith("%%sh\n"):
            lines = cell.source.removeprefix("%%sh\n")
            cell.source = _STRICT + lines if strict else _typed(lines)
    book.metadata.pop("jupytext", None)
    return book


def _typed(lines: str) -> str:
    """Return shell commands as a notebook takes them on every system."""
    whole = re.sub(r"\s*\\\n\s*", " ", lines).splitlines()
    return "\n".join(f"!{each}" for each in whole if each)


def run(page: Path, place: Path) -> list[str]:
    """Run a tutorial in a folder, and return what each cell with commands printed.

    Raises
    ------
    subprocess.CalledProcessError
        If a cell fails; what it printed is on the standard error.
    """
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{page.stem}.ipynb"
    jupytext.write(notebook(page, strict=True), file)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    plain = {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run(
        [sys.executable, "-c", _RUNNER, file.name],
        cwd=place,
        check=True,
        env=os.environ | plain | {"PATH": path, "PYTHONPATH": python},
    )
    book = json.loads(file.read_text(encoding="utf-8"))
    cells = [each for each in book["cells"] if each["cell_type"] == "code"]
    return ["".join(_text(out) for out in each["outputs"]) for each in cells]


def _text(output: dict[str, Any]) -> str:
    found = output.get("text") or output.get("data", {}).get("text/plain", "")
    return "".join(found)


def made(page: Path) -> dict[str, tuple[str, int, int]]:
    """Return the pictures of a page: the file each is made of, and its size.

    The size is that of Chromium's window, for web pages.
    """
    found = _MADE.findall(page.read_text(encoding="utf-8"))
    return {
        picture: (file, int(width or 0), int(height or 0))
        for file, width, height, picture in found
    }


def take_pictures(page: Path, place: Path) -> None:
    """Put the pictures that a tutorial made beside the pages, small enough for them."""
    from PIL import Image  # noqa: PLC0415

    for picture, (file, width, height) in made(page).items():
        source = place / file
        if source.suffix == ".html":
            source = _screenshot(source, width or 1000, height or 700)
        image = Image.open(source).convert("RGB")
        image.thumbnail((1000, 1400), Image.Resampling.LANCZOS)
        target = page.parent / picture
        target.parent.mkdir(exist_ok=True)
        # This method keeps the colour of a small patch, such as in a legend.
        few = image.quantize(200, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(target, optimize=True)
        size = target.stat().st_size
        print(f"{target}: {size / 1000:.0f} kB")
        if size > LIMIT_BYTES:
            raise SystemExit(f"{target}: is larger than {LIMIT_BYTES} bytes")


def _screenshot(page: Path, width: int, height: int) -> Path:
    browser = shutil.which("chromium") or "chromium"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    flags += ["--disable-background-networking", "--virtual-time-budget=5000"]
    target = page.with_suffix(".page.png")
    size = f"--window-size={width},{height}"
    words = [browser, *flags, size, f"--screenshot={target}", page.resolve().as_uri()]
    subprocess.run(words, check=True, capture_output=True)
    return target


def main() -> None:
    """Run tutorials and make their pictures anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [page.stem for page in sorted(FOLDER.glob("*.md"))]
    parser.add_argument("tutorials", nargs="*", metavar="TUTORIAL", help=str(names))
    given = parser.parse_args().tutorials or names
    for name in given:
        page = FOLDER / f"{name}.md"
        with tempfile.TemporaryDirectory() as place:
            for said in run(page, Path(place)):
                print(said)
            take_pictures(page, Path(place))


if __name__ == "__main__":
    main()
