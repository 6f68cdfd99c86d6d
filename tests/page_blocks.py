"""The code blocks of the pages, and what the pages say about running them.

A comment before a block of shell or Python tells whether a test runs it:

- ``<!-- run -->``: ``tests/pages/test_pages_run.py`` does, in the order of the page;
- ``<!-- run by FILE -->``: another test does;
- ``<!-- not run: REASON -->``: no test does, and why.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
COMMANDS = ("sh", "python")
LANGUAGES = (*COMMANDS, "json", "yaml", "text")
_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^\n]*?) -->\n)?"
    r"(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)\n *```",
    re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """Commands, one a line: comments and line breaks within one are taken out."""
        whole = self.text.replace("\\\n", " ").splitlines()
        lines = [" ".join(re.split(r"(?:^| )#", each)[0].split()) for each in whole]
        return [each for each in lines if each]


def pages() -> list[Path]:
    """Return every page for users, but the changelog, which says what was, too."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(page for page in found if page.name != "CHANGELOG.md")


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, from the first to the last."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["mark"] or "",
            re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
        )
        for found in _BLOCK.finditer(text)
    ]
