"""What the pages say exists: commands, options, public names; and the site builds."""

import ast
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from page_blocks import blocks, pages

import cellseg3d
from cellseg3d.cli.main import VERBS, build_app

ROOT = Path(__file__).parents[2]
PAGES = pages()
INLINE = re.compile(r"`(cellseg3d\s[a-z][^`]*)`")


@pytest.fixture(scope="module")
def commands():
    """The command line as it is, which nothing is run of here."""
    return typer.main.get_command(build_app())


def of_words(commands, words):
    """The command that words name, and those after its name."""
    found = commands
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    found = getattr(found, "default", found) if words else found
    return found, words


def typed_in(page):
    """The commands of the blocks of a page, as one types them."""
    shell = [block for block in blocks(page) if block.language == "sh"]
    for line in (line for block in shell for line in block.lines):
        typed = re.match(r"(?:\w+=\S+ )*cellseg3d (.*)", line)
        within = re.search(rf"cellseg3d(?:\.cli)? ((?:{'|'.join(VERBS)}) .*)", line)
        if found := typed or within:
            yield re.split(r" (?:&&|&|>|\|) ?", found[1])[0]


def said_in(page):
    """The commands in the sentences of a page, of which some are no whole commands."""
    for line in INLINE.findall(page.read_text(encoding="utf-8")):
        yield " ".join(line.split()).removeprefix("cellseg3d ").replace("...", "")


def refusal(commands, line):
    """What the command line says against a command; nothing where it takes it."""
    command, rest = of_words(commands, shlex.split(line))
    if command is commands:
        return f"{line}: no such verb"
    try:
        command.make_context(command.name, rest)
    except typer.Exit:
        return None  # --help
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return f"{line}: {error.format_message()}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_of_a_page_could_be_typed(page, commands):
    refused = [refusal(commands, line) for line in typed_in(page)]

    assert [each for each in refused if each] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_in_a_sentence_has_the_options_it_is_given(page, commands):
    unknown = []
    for line in said_in(page):
        command, rest = of_words(commands, line.split())
        if command is commands:
            unknown += [line] if rest[:1] not in (["--help"], ["--version"]) else []
            continue
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        given = {w.partition("=")[0] for w in rest if re.match(r"--[a-z]", w)}
        unknown += [
            f"{line}: {word}" for word in given - options - {"--debug", "--help"}
        ]

    assert unknown == []


def test_the_pages_name_every_verb_and_every_public_name():
    said = {
        line.split()[0] for page in PAGES for line in (*typed_in(page), *said_in(page))
    }
    site = runpy.run_path(str(ROOT / "docs" / "site" / "pages.py"))
    named = re.findall(r"^::: \S+\.(\w+)$", site["python"](), re.MULTILINE)

    assert set(VERBS) - said == set()
    assert {"__version__", *named} == set(cellseg3d.__all__)
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\S+\) \| (.+) \|$", site["python"](), re.M)
    assert [name for name, _ in rows] == named
    assert all(said.endswith(".") for _, said in rows)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bundle export x --no-such", "No such option"),
        ("simulate --shape 32", "Missing option '--out'"),
        ("evaluate", "Missing argument"),
        ("train --out x --minutes long", "Invalid value"),
        ("trian --out x", "no such verb"),
    ],
)
def test_a_command_that_could_not_be_typed_is_noticed(commands, line, said):
    assert said in refusal(commands, line)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = yaml.safe_load(text)["nav"]
    kinds = [kind for each in navigation for kind in each]

    named = set(re.findall(r"[\w/-]+\.md", text[text.index("nav:\n  - Home") :]))
    assert kinds[:5] == ["Home", "Tutorials", "How to", "Reference", "Explanations"]
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    assert {page for page in pages if not page.startswith("adr/")} <= named


def said_by_the_program():
    """Every text in the program's code, with {} where a value is put in."""
    for file in (ROOT / "cellseg3d").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(each, "value", "") for each in node.values)
                yield "".join(each if isinstance(each, str) else "{}" for each in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_message_that_is_explained_is_one_of_the_program():
    page = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)

    said = "\n".join(said_by_the_program())
    assert len(explained) > 20
    assert [each for each in explained if each not in said] == []


def test_the_readme_lists_every_network_with_its_scores():
    models = runpy.run_path(str(ROOT / "docs" / "site" / "models.py"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    told = "python docs/site/models.py writes the table anew"
    assert models["with_table"](text) == text, told
    assert models["table"]().count("\n") >= 8


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
    assert 'src="cards/nuclei_unet2d_good.png"' in front
    assert (tmp_path / "site" / "cards" / "nuclei_unet2d_good.png").is_file()
    card = (tmp_path / "site" / "cards" / "nuclei_unet2d.html").read_text("utf-8")
    assert 'src="nuclei_unet2d_bad.png"' in card
    cells = (tmp_path / "site" / "tutorials" / "cluster.ipynb").read_text("utf-8")
    assert "!cellseg3d convert" in cells


@pytest.mark.slow
def test_a_dead_link_is_noticed(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "docs", copy / "docs")
    shutil.copytree(ROOT / "benchmarks" / "records", copy / "benchmarks" / "records")
    shutil.copytree(ROOT / "bundles", copy / "bundles")
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
