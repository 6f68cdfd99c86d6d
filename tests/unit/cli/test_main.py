import os
import subprocess
import sys

import numpy as np
import pytest
import typer
from typer.main import get_command

from cellseg3d.cli import main as cli
from cellseg3d.core.errors import ConfigError, EnvironmentFault, SpacingError
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_volume

TITLES = [f"{title}:" for title in cli.GROUPS]


@pytest.fixture
def failing(monkeypatch):
    """Make `cellseg3d fail` raise what a test asks for."""

    def install(error):
        def fail() -> None:
            raise error

        app = typer.Typer(pretty_exceptions_enable=False)
        app.callback()(cli._options)
        app.command(name="fail")(fail)
        monkeypatch.setattr(cli, "build_app", lambda: app)

    return install


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpacingError("a.tif: spacing is missing"), 2),
        (ConfigError("a.yaml: unknown key"), 3),
        (EnvironmentFault("a.tif: disk full"), 4),
        (MemoryError("9 GiB"), 4),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a bug"), 1),
    ],
)
def test_every_error_is_one_line_and_an_exit_code(failing, capsys, error, code):
    failing(error)

    assert cli.main(["fail"]) == code

    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert str(error) in lines[0]


def test_debug_shows_the_traceback_wherever_it_stands(failing, capsys):
    failing(SpacingError("a.tif: spacing is missing"))

    assert cli.main(["fail", "--debug"]) == 2

    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_verb_or_option_is_one_line(capsys):
    assert cli.main(["predct"]) == 2
    assert cli.main(["inspect", "--pgn", "a.png"]) == 2

    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert "predct" in lines[0]
    assert "--pgn" in lines[1]


def test_no_word_at_all_shows_the_help(capsys):
    assert cli.main([]) == 0

    said = capsys.readouterr().out
    titles = [line for line in said.splitlines() if line in TITLES]
    assert titles == TITLES
    listed = said.partition(f"{TITLES[0]}\n")[2]
    assert "..." not in listed  # the sentence about each verb is complete


def test_help_is_whole_sentences_that_fit_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    for words, command in commands(get_command(cli.build_app())):
        said = [command.help, *(each.help for each in command.params)]
        assert [text for text in said if not text.strip().endswith(".")] == [], words

        assert cli.main([*words, "--help"]) == 0

        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if len(line) > 80] == []


def commands(command, words=()):
    """Yield the words and the command of each verb, and of each verb of a verb."""
    inside = getattr(command, "commands", {})
    if not inside:
        yield words, command
    for name, each in inside.items():
        yield from commands(each, (*words, name))


def test_operators_that_an_apple_gpu_lacks_run_on_the_cpu():
    code = (
        "import os, sys\n"
        "from cellseg3d.cli import main as cli\n"
        "def told(words):\n"
        "    loaded = 'torch' in sys.modules\n"
        "    print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'], loaded)\n"
        "cli.run = told\n"
        "cli.main(['predict', 'a.tif', '--device', 'mps'])\n"
    )
    found = dict(os.environ)
    found.pop("PYTORCH_ENABLE_MPS_FALLBACK", None)
    words = [sys.executable, "-c", code]

    done = subprocess.run(words, env=found, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "1 False"


def test_a_warning_that_two_parts_of_a_command_give_is_told_once(tmp_path):
    path = tmp_path / "a.zarr"
    write_volume(path, Volume(np.full((4, 8, 8), 3, np.uint8)))
    chunk = next(each for each in path.rglob("*") if not each.suffix and each.is_file())
    chunk.unlink()
    words = [sys.executable, "-m", "cellseg3d", "evaluate", str(path), str(path)]

    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert done.stderr.count("chunks are missing and read as zeros") == 1


def test_wildcards_are_replaced_where_the_shell_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in ("b.tif", "a.tif", "[1].tif", "c.png"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    found = cli.expanded(["inspect", "[ab]*.tif", "[1].tif", "*.mrc", "-*", "~/c.png"])

    home = str(tmp_path / "c.png")
    expected = ["inspect", "a.tif", "b.tif", "[1].tif", "*.mrc", "-*", home]
    assert found == expected


@pytest.mark.parametrize("verb", [["doctor"], ["plan"], ["preview", "--png", "a.png"]])
def test_a_volume_in_place_of_a_data_set_is_told(tmp_path, verb, capsys):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\xb6")

    assert cli.main([*verb, str(path)]) == 2
    said = capsys.readouterr()
    assert "is a volume, not a data set" in said.err + said.out
