"""The report page shows the names that strangers chose, and none of them acts."""

import html
import json
import re
import sys
from html.parser import HTMLParser

import pytest
from report_case import write_case, write_run

from cellseg3d.cli.main import main

TAGS = ("script", "img", "svg", "iframe", "object", "embed", "a", "style", "meta")
ATTRIBUTES = ("onerror", "onload", "onclick", "onmouseover", "onfocus")
# Ways out of a text, an attribute, a script, a style, a comment and JSON.
WAYS_OUT = (
    "{x}",
    "'{x}",
    '"{x}',
    '">{x}',
    "'>{x}",
    "</script>{x}",
    "</title>{x}",
    "</style>{x}",
    "-->{x}",
    "]]>{x}",
    "\\u003c{x}",
    "${{alert(1)}}{x}",
    "`{x}",
)
NAMES = (
    *(way.format(x="<script>alert(1)</script>") for way in WAYS_OUT),
    *(f"<{tag} onerror=alert(1) src=x>" for tag in TAGS),
    *(f"</{tag}><{tag} href=javascript:alert(1)>" for tag in TAGS),
    *(f'" {name}="alert(1)' for name in ATTRIBUTES),
    *(f"' {name}='alert(1)" for name in ATTRIBUTES),
    *(f"x {name}=alert(1) y" for name in ATTRIBUTES),
    *(f"<b {name}=alert(1)>" for name in ATTRIBUTES),
    *(way.format(x="<img src=x onerror=alert(1)>") for way in WAYS_OUT),
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)",
    "<!--<script>alert(1)",
    "<![CDATA[<script>alert(1)",
    "{{7*7}}",
    "{%import os%}",
    "%3Cscript%3Ealert(1)",
    "\u202e<script>alert(1)",
    "\x00<script>alert(1)",
    "\u2028alert(1)//",
    "expression(alert(1))",
    "@import url(http://x)",
    "</main></body><script>alert(1)",
    "__proto__",
    "constructor",
    "toString",
    "<img src=y onerror=alert(2)>",
)


class Seen(HTMLParser):
    """What a browser would make of a page: its tags and handlers, by number."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.acting, self.targets = {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.acting += [name for name, _ in attrs if name.startswith("on")]
        self.targets += [
            value
            for name, value in attrs
            if name in ("href", "src", "data", "srcdoc", "action", "http-equiv")
        ]


def page_of(folder, names):
    """Write a run and a report whose names are the given ones; return the page."""
    folder.mkdir()
    run = write_run(folder / "run")
    file = run / "run.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["data"] |= {
        "classes": ["background", *names],
        "training": list(names),
        "validation": list(names),
        "content": {name: name for name in names},
        "datalist": names[0],
    }
    record["warnings"] = list(names)
    record["git_commit"] = names[0]
    record["machine"] = {"system": names[0], "threads": 2, "gpu": names[-1]}
    record["versions"] = {name: name for name in names}
    for row in record["history"]:
        if "scores" in row:
            row["scores"] = {
                "dice": {name: {"cell": 0.5, names[0]: 0.5} for name in names}
            }
    file.write_text(json.dumps(record), encoding="utf-8")
    out = folder / "page.html"
    # Windows allows no such name of a file.
    words = write_case(folder, "cell07" if sys.platform == "win32" else names[-1])
    assert main(["report", str(run), *words, "--objects", "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    names = [f"name {number}" for number in range(len(NAMES))]
    return Seen(page_of(tmp_path_factory.mktemp("harmless") / "case", names))


def test_there_are_eighty_names():
    assert len(set(NAMES)) >= 80


def test_no_name_becomes_a_part_of_the_page(tmp_path, harmless):
    text = page_of(tmp_path / "case", list(NAMES))

    seen = Seen(text)

    assert seen.tags == harmless.tags
    assert seen.acting == harmless.acting
    assert not any("javascript:" in str(target) for target in seen.targets)
    for name in NAMES:
        if "<" in name:
            assert name not in text
    assert html.escape("<script>alert(1)</script>") in text


def test_no_name_leaves_the_script_that_holds_the_data(tmp_path):
    text = page_of(tmp_path / "case", list(NAMES))

    blocks = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)

    assert blocks
    for block in blocks:
        assert "<script>alert" not in block
        assert "<!--" not in block
