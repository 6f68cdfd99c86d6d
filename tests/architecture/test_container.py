"""The Dockerfile copies and installs what there is, and no more than it needs."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()


def test_what_the_image_copies_is_there_and_let_in():
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    copied = [line.split()[1:-1] for line in LINES if line.startswith("COPY")]
    names = {name for each in copied for name in each}

    assert rules[0] == "*"
    assert names == {rule[1:] for rule in rules if re.fullmatch(r"![^/*]+", rule)}
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_extras_that_the_image_installs_exist():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    [wanted] = [found for line in LINES for found in re.findall(r"'\.\[(.*)\]'", line)]

    assert set(wanted.split(",")) <= set(setup["options.extras_require"])
