"""Every way out that a message names exists: as an option of the verb that says it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from cellseg3d.cli.main import build_app
from cellseg3d.cli.terminal.wording import CASE_KEYS

PACKAGE = Path(__file__).parents[2] / "cellseg3d"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)`")
# Modules that one verb alone runs; their messages may name its options.
ONE_VERB = {
    "benchmark": "benchmark",
    "cli/plan.py": "train",  # its last line says how to go on
    "cli/tune.py": "train",
    "planning/files.py": "train",
    "report": "report",
    "runs/unseen.py": "bundle combine",
    "training": "train",
    "tuning": "tune",
}
# Names between backticks that are no parameters.
CODE = {"backend", "batch", "output", "pick"}  # of Python alone
# Options of other programs that a text tells about.
FOREIGN = {"--help", "--debug", "--config_file", "--dataset_dir"}


def verbs() -> dict[str, typer.core.TyperCommand]:
    """Return every verb, and every verb of a verb, by its words."""
    found = {}
    for name, command in typer.main.get_command(build_app()).commands.items():
        found[name] = command
        for inner, each in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = each
    return found


VERBS = verbs()
OPTIONS = {
    name: {flag for o in each.params for flag in (*o.opts, *o.secondary_opts)}
    | {"--help"}
    for name, each in VERBS.items()
}
PARAMETERS = {str(o.name) for each in VERBS.values() for o in each.params}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the sentences in a module: texts with a blank, no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            skipped.add(id(body[0].value))
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = node.values
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = [node]
        else:
            continue
        text = "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in parts)
        if " " in text.strip():
            yield node.lineno, text


def own_verbs(path: Path) -> list[str]:
    """Return the verbs that a module belongs to; none for one that all may run."""
    place = path.relative_to(PACKAGE).as_posix()
    found = [verb for key, verb in ONE_VERB.items() if place.startswith(key)]
    verb = path.stem.replace("_", "-")
    return [*found, verb] if place.startswith("cli/") and verb in VERBS else found


def missing(path: Path) -> list[str]:
    """Return the options and parameters that messages of a module name in vain."""
    found = []
    for line, text in texts(path):
        where = f"{path.relative_to(PACKAGE)}:{line}: "
        for flag in FLAG.finditer(text):
            before = re.split(r"[;\n]", text[: flag.start()])[-1]
            named = [verb for verb in VERBS if re.search(rf"\b{verb}\b", before)]
            named += own_verbs(path)
            inner = [v for v in VERBS if any(v.startswith(f"{n} ") for n in named)]
            known = {flag for verb in (*named, *inner) for flag in OPTIONS[verb]}
            if flag[0] not in known | FOREIGN:
                found.append(f"{where}{flag[0]} in {text!r:.160}")
        found += [
            f"{where}`{name}` in {text!r:.160}"
            for name in PARAMETER.findall(text)
            if name not in PARAMETERS | set(CASE_KEYS) | set(VERBS) | CODE
        ]
    return found


ROOMS = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir())


@pytest.mark.parametrize("room", ROOMS)
def test_messages_name_options_that_exist(room):
    files = sorted((PACKAGE / room).rglob("*.py"))

    assert [line for path in files for line in missing(path)] == []


def test_a_flag_that_does_not_exist_would_be_found(monkeypatch):
    said = [(1, "give --spacing"), (2, "run `cellseg3d train --out X`"), (3, "a `zyx`")]
    monkeypatch.setitem(globals(), "texts", lambda _: iter(said))

    found = missing(PACKAGE / "io" / "names.py")

    assert [line.split(": ")[1].split(" ")[0] for line in found] == [
        "--spacing",
        "`zyx`",
    ]
