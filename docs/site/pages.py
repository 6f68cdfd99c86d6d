"""Pages of the site that are made of something else, and links between all of them.

mkdocs calls the functions whose names begin with ``on_``. Pages outside of ``docs/``
(README, changelog, config keys, measurements) are taken as they are; the reference of
commands and of Python is made of the command line and of the public names.
"""

import ast
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import click
import jupytext
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import cellseg3d
from cellseg3d.cli.main import build_app

sys.path.append(str(Path(__file__).parent))
from tutorials import FOLDER, ROOT, notebook

# A page of the repository that is not in docs/, and its place in the site.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "configs/README.md": "configs.md",
}
RECORDS = "benchmarks/records"
CARDS = "bundles/*/docs/README.md"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def outside() -> dict[str, str]:
    """Return the pages that are not in docs/, by their path in the repository."""
    records = sorted(ROOT.glob(f"{RECORDS}/*.md"))
    names = {path.relative_to(ROOT).as_posix() for path in records}
    return (
        OUTSIDE
        | {name: name.replace(RECORDS, "records") for name in names}
        | {f"bundles/{name}/docs/README.md": f"cards/{name}.md" for name in cards()}
    )


def cards() -> list[str]:
    """Return the names of the bundles that have a card, as those with weights do."""
    return sorted(path.parts[-3] for path in ROOT.glob(CARDS) if _has_weights(path))


def _has_weights(card: Path) -> bool:
    return (card.parents[1] / "models" / "model.safetensors").is_file()


def pictures() -> dict[str, str]:
    """Return the pictures of the cards, by their path in the repository."""
    return {
        path.relative_to(ROOT).as_posix(): f"cards/{name}_{path.name}"
        for name in cards()
        for path in sorted((ROOT / "bundles" / name / "docs").glob("*.png"))
    }


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the lists of decisions and measurements."""
    places = {
        "ADRS": sorted(f"adr/{path.name}" for path in (ROOT / "docs/adr").glob("*.md")),
        "CARDS": [f"cards/{name}.md" for name in cards()],
        "RECORDS": sorted(each for each in outside().values() if "records/" in each),
    }
    config["nav"] = _filled(config["nav"], places)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    made = {
        place: (ROOT / name).read_text(encoding="utf-8")
        for name, place in outside().items()
    }
    made |= {"commands.md": commands(), "python.md": python()}
    made |= {f"tutorials/{name}.ipynb": text for name, text in notebooks().items()}
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    for name, place in pictures().items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Let links between files of the repository lead to pages of the site."""
    place = page.file.src_uri
    source = {site: name for name, site in outside().items()}.get(
        place, f"docs/{place}"
    )

    def link(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        path, hash_, anchor = target.partition("#")
        if "://" in target or not path:
            return found[0]
        named = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        there = (outside() | pictures()).get(named, named.removeprefix("docs/"))
        if files.get_file_from_path(there) is None:
            if not (ROOT / named).exists():
                return found[0]  # mkdocs tells of it
            return f"{words} (`{named}`)"  # a file of the repository, no page
        near = posixpath.relpath(there, posixpath.dirname(place) or ".")
        return f"{mark}[{words}]({near}{hash_}{anchor})"

    if place.startswith("tutorials/"):
        markdown = _with_notebook(markdown, Path(place).stem)
    return _LINK.sub(link, markdown)


def notebooks() -> dict[str, str]:
    """Return the tutorials as notebooks, by their names."""
    return {
        page.stem: jupytext.writes(notebook(page), "ipynb")
        for page in sorted(FOLDER.glob("*.md"))
    }


def _with_notebook(markdown: str, name: str) -> str:
    """Return a tutorial that offers itself as a notebook, under its title."""
    title, _, rest = markdown.partition("\n")
    offer = f'<a href="{name}.ipynb" download>This page as a notebook</a>'
    return f"{title}\n\n{offer}\n{rest}"


def commands() -> str:
    """Return the reference of the command line, from the command line itself."""
    app = typer.main.get_command(build_app())
    parts = ["# Commands", str(app.help), "```\ncellseg3d COMMAND --help\n```"]
    for name, command in app.commands.items():  # type: ignore[attr-defined]
        parts += _command(command, f"cellseg3d {name}", 2)
    return "\n\n".join(parts) + "\n"


def _command(command: Any, name: str, level: int) -> list[str]:  # noqa: ANN401
    """Return a command: what it does, its options, and the commands under it."""
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"{'#' * level} {name}", _text(command.help), f"```\n{name} {usage}\n```"]
    rows = [
        f"| {_option(each)} | {_text(getattr(each, 'help', ''))} | {_default(each)} |"
        for each in command.params
        if each.name != "help" and not getattr(each, "hidden", False)
    ]
    if rows:
        parts.append(
            "\n".join(
                ["| option | what it does | default |", "| --- | --- | --- |", *rows]
            )
        )
    for own, below in getattr(command, "commands", {}).items():
        parts += _command(below, f"{name} {own}", level + 1)
    return parts


def _option(option: Any) -> str:  # noqa: ANN401
    if option.param_type_name == "argument":
        return f"`{(option.metavar or option.name).upper()}`"
    return ", ".join(f"`{word}`" for word in [*option.opts, *option.secondary_opts])


def _default(option: Any) -> str:  # noqa: ANN401
    value = option.default
    if option.required:
        return "required"
    if value is None or value is False or callable(value) or value in ("", (), []):
        return ""
    return f"`{value}`"


def _text(text: str | None) -> str:
    """Return help as one line of Markdown."""
    plain = " ".join((text or "").split())
    return plain.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def python() -> str:
    """Return the reference of the public names, for mkdocstrings to fill in."""
    parts = [
        "# Python",
        "Every name below is imported from `cellseg3d` itself: "
        "`from cellseg3d import load_model`. Everything else may change.",
    ]
    # Where a name lies is written there, so that nothing heavy is imported.
    names = sorted(cellseg3d._PUBLIC, key=lambda name: (name[0].isupper(), name))
    places = {name: f"{cellseg3d._PUBLIC[name]}.{name}" for name in names}
    rows = [f"| [`{name}`](#{places[name]}) | {_summary(name)} |" for name in names]
    parts.append("\n".join(["| name | what it does |", "| --- | --- |", *rows]))
    parts += [f"::: {place}" for place in places.values()]
    return "\n\n".join(parts) + "\n"


def _summary(name: str, module: str | None = None) -> str:
    """Return the first sentence of a public name's docstring."""
    place = (module or cellseg3d._PUBLIC[name]).replace(".", "/")
    file = Path(cellseg3d.__file__).parents[1] / f"{place}.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return _text((ast.get_docstring(node) or "").partition("\n\n")[0])
        if isinstance(node, ast.ImportFrom) and name in [
            one.name for one in node.names
        ]:
            return _summary(name, node.module)
    return ""


def _filled(nav: Any, places: dict[str, list[str]]) -> Any:  # noqa: ANN401
    """Return the navigation with lists of pages in place of their names."""
    if isinstance(nav, list):
        return [_filled(each, places) for each in nav]
    if isinstance(nav, dict):
        return {key: _filled(value, places) for key, value in nav.items()}
    return places.get(nav, nav)
