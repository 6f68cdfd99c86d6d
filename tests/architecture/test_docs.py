"""What the pages say exists: commands, options, public names; and the site builds."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

import cellseg3d
from cellseg3d.cli.main import build_app, main

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"```(?:sh)?\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`(cellseg3d\s[a-z][^`]*)`")


@pytest.fixture(scope="module")
def commands():
    return typer.main.get_command(build_app())


def of_words(commands, words):
    """The command that words name, and those after its name."""
    found = commands
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    found = getattr(found, "default", found) if words else found
    return found, words


def said_in(page):
    """The commands in blocks and in sentences of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    lines = [line for line in blocks if line.startswith("cellseg3d ")]
    for line in [*lines, *INLINE.findall(BLOCK.sub("", text))]:
        yield " ".join(line.split()).partition(" #")[0].replace("...", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_of_a_page_has_the_verbs_and_options_it_is_given(page, commands):
    unknown = []
    for line in said_in(page):
        if page.name == "CHANGELOG.md":
            continue  # it says what was, too
        words = re.split(r"\s+", line)[1:]
        command, rest = of_words(commands, list(words))
        if command is commands:
            unknown += [line] if words[0] not in ("--help", "--version") else []
            continue
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        given = {w.partition("=")[0] for w in rest if re.match(r"--[a-z]", w)}
        unknown += [
            f"{line}: {word}" for word in given - options - {"--debug", "--help"}
        ]

    assert unknown == []


def test_the_check_would_notice():
    commands = typer.main.get_command(build_app())
    command, rest = of_words(commands, ["bundle", "export", "x", "--no-such"])

    assert command.name == "export"
    assert rest == ["x", "--no-such"]


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = yaml.safe_load(text)["nav"]
    kinds = [kind for each in navigation for kind in each]

    named = set(re.findall(r"[\w-]+\.md", text[text.index("nav:\n  - Home") :]))
    assert kinds[:5] == ["Home", "Tutorials", "How to", "Reference", "Explanations"]
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= named


def built(out, root=ROOT):
    pytest.importorskip("mkdocs", reason="pip install '.[dev]'")
    words = ["build", "--strict", "--config-file", str(root / "mkdocs.yml")]
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *words, "--site-dir", str(out)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=root,
    )


@pytest.mark.slow
def test_the_site_holds_every_command_and_public_name(tmp_path, commands):
    done = built(tmp_path / "site")

    assert done.returncode == 0, done.stderr[-2000:]
    page = (tmp_path / "site" / "commands.html").read_text(encoding="utf-8")
    for name, command in commands.commands.items():
        assert f'id="cellseg3d-{name}"' in page
        for option in command.params:
            if option.param_type_name == "option" and option.name != "help":
                assert option.opts[0] in page
    page = (tmp_path / "site" / "python.html").read_text(encoding="utf-8")
    for name, module in cellseg3d._PUBLIC.items():
        assert f'id="{module}.{name}"' in page
    front = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'href="datalists.html"' in front
    assert (tmp_path / "site" / "images" / "overview.png").is_file()


@pytest.mark.slow
def test_a_dead_link_is_noticed(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "docs", copy / "docs")
    shutil.copytree(ROOT / "benchmarks" / "records", copy / "benchmarks" / "records")
    for name in (
        "mkdocs.yml",
        "configs/README.md",
        *(each.name for each in ROOT.glob("*.md")),
    ):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    page = copy / "docs" / "faq.md"
    page.write_text(page.read_text("utf-8") + "[nowhere](nowhere.md)\n", "utf-8")

    done = built(tmp_path / "site", copy)

    assert done.returncode == 1
    assert "nowhere.md" in done.stderr


@pytest.mark.slow
def test_the_first_labels_are_found_as_the_page_says(tmp_path, monkeypatch, capsys):
    """Each command of the page runs, and the last one says that labels are right."""
    pytest.importorskip("cc3d")
    text = (ROOT / "docs" / "first-labels.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for line in "\n".join(blocks).splitlines() if line]
    monkeypatch.chdir(tmp_path)

    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    capsys.readouterr()
    assert main([*shlex.split(lines[-1])[1:], "--json", "scores.json"]) == 0

    scores = yaml.safe_load((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert len(lines) == 7
    assert (tmp_path / "page.html").is_file()
    dice = {name: row["dice"] for name, row in scores["mean"].items()}
    assert dice["nucleus"] > 0.8
    assert dice["cytoplasm"] > 0.8
