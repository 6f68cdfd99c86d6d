"""Run the verb that the user typed; an error becomes one line and an exit code."""

import errno
import logging
import os
import sys
import traceback
from glob import glob
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from cellseg3d import __version__
from cellseg3d.cli.process import restart_in_utf8, tune_process
from cellseg3d.cli.terminal.wording import line_of, running, worded
from cellseg3d.core.errors import CellSegError
from cellseg3d.core.steps import logger as steps

# The verbs in the groups and in the order of the main help. Each verb has a module of
# its name, which holds a function `command`, or a typer app `app` where the verb has
# verbs of its own.
GROUPS = {
    "Try it": ("demo",),
    "Prepare": ("simulate", "inspect", "convert", "doctor", "plan", "preview"),
    "Train": ("train", "review", "tune", "bundle"),
    "Use": ("predict", "objects", "measure"),
    "Check": ("evaluate", "explain", "verify-seams", "benchmark", "report"),
}
VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)
INTERRUPTED = 130


class GroupedVerbs(TyperGroup):
    """The main command, whose help lists the verbs in `GROUPS`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the name and the first sentence of each verb, group by group."""
        longest = max(map(len, VERBS))
        room = formatter.width - longest - 6  # the indent and the gap take 6 columns
        for title, verbs in GROUPS.items():
            rows = []
            for verb in verbs:
                sentence = self.commands[verb].get_short_help_str(room)
                rows.append((verb.ljust(longest), sentence))  # so that groups align
            with formatter.section(title):
                formatter.write_dl(rows)


def leads() -> bool:
    """Return whether this is the only process, or the first that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def build_app() -> typer.Typer:
    """Return the typer application with every verb."""
    app = typer.Typer(
        name="cellseg3d",
        cls=GroupedVerbs,
        help="Segment cells, nuclei and organelles in 3D microscopy volumes.",
        epilog="`cellseg3d VERB --help` explains a verb and its options.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for verb in VERBS:
        name = f"cellseg3d.cli.{verb.replace('-', '_')}"
        module = import_module(name)
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb)
        else:
            app.command(name=verb)(module.command)
    return app


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        The words after the program's name. By default, those of this process.

    Returns
    -------
    int
        0 if all went well, 2 if a file or an option is wrong, 3 if a config is wrong,
        4 if the machine refused (disk, memory, permission), 130 if the user
        interrupted, 1 if cellseg3d itself failed.
    """
    if arguments is None:
        restart_in_utf8()
        if os.name == "nt":
            sys.argv[1:] = expanded(sys.argv[1:])
    words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold a letter that the console cannot show.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    tune_process()
    debug = "--debug" in words
    if debug:  # the option may stand before or behind the verb
        words = ["--debug", *(word for word in words if word != "--debug")]
    try:
        code = run(words)
    except Exception as error:
        return _explain(error, debug=debug)
    except KeyboardInterrupt:
        return _interrupted()
    return _interrupted() if code == INTERRUPTED else code


def expanded(words: list[str]) -> list[str]:
    """Return words with ``~`` and wildcards replaced, as shells do except on Windows.

    A word that names a file, begins with a hyphen or matches nothing stays as it is.
    """
    found: list[str] = []
    for word in words:
        home = str(Path(word).expanduser()) if word.startswith("~") else word
        plain = word.startswith("-") or Path(word).exists()
        found += [word] if plain else sorted(glob(home)) or [home]  # noqa: PTH207
    return found


def run(words: list[str]) -> int:
    """Run one command and return its exit code; errors are not caught here.

    typer itself returns a code after an interrupt and after an early end, such as that
    of ``--help``.
    """
    app = build_app()
    running(words, app)
    try:
        code = app(args=words, prog_name="cellseg3d", standalone_mode=False)
    finally:
        _forget_warnings()
    return code if isinstance(code, int) else 0


def _explain(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    ours = isinstance(error, CellSegError)
    if isinstance(error, typer.Abort) or (not ours and _was_interrupted(error)):
        return _interrupted()
    if hasattr(error, "format_message"):  # typer's error: an unknown verb or option
        print(f"error: {error.format_message()}", file=sys.stderr)
        return 2
    if isinstance(error, CellSegError):
        print(f"error: {line_of(error)}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, MemoryError):
        print(
            f"error: the memory is exhausted ({error}); close other programs, or let "
            "`cellseg3d predict` take less with --max-ram",
            file=sys.stderr,
        )
        return 4
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror}", file=sys.stderr)
        return 4
    if not debug:
        print(
            f"error: {type(error).__name__}: {error} (this is a fault of cellseg3d; "
            "run the command again with --debug and report what it prints)",
            file=sys.stderr,
        )
    return 1


def _was_interrupted(error: BaseException) -> bool:
    """Return whether Ctrl-C caused an error: libraries wrap it while they load."""
    cause: BaseException | None = error
    seen: list[BaseException] = []  # an error can be its own cause
    while cause is not None and cause not in seen:
        if isinstance(cause, KeyboardInterrupt):
            return True
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return False


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


# What a disk or a system refuses; a file that is missing may be our own fault.
_OF_THE_MACHINE = {
    getattr(errno, name)
    for name in (
        *("EACCES", "EDQUOT", "EEXIST", "EIO", "EISDIR", "EMFILE", "ENAMETOOLONG"),
        *("ENFILE", "ENOSPC", "ENOTDIR", "EPERM", "EROFS", "ETXTBSY"),
    )
    if hasattr(errno, name)
}


class _Once(logging.Filter):
    """Let a warning through once in a command, however many parts of it say so."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be shown."""
        if record.levelno < logging.WARNING:
            return True
        text = record.getMessage()
        if text in self._said:
            return False
        self._said.add(text)
        return True


def _forget_warnings() -> None:
    """Let warnings of this command be told again by whatever this process does next."""
    for handler in logging.getLogger().handlers:
        for each in [each for each in handler.filters if isinstance(each, _Once)]:
            handler.removeFilter(each)


class _Worded(logging.Formatter):
    """A formatter whose lines name the options of the verb that is running."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line, with options in place of parameters."""
        line = super().format(record)
        if record.name == steps.name:
            line = line.removeprefix(f"{record.levelname}: ")
        return worded(line)


def _show_version(value: bool) -> None:
    if value:
        print(f"cellseg3d {__version__}")
        raise typer.Exit


def _options(
    debug: bool = typer.Option(
        False, "--debug", help="Show the traceback of an error."
    ),
    verbose: bool = typer.Option(False, "--verbose", help="Log each step of the work."),
    version: bool = typer.Option(
        False,
        "--version",
        callback=_show_version,
        is_eager=True,
        help="Show the version.",
    ),
) -> None:
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    if not leads():
        level = logging.ERROR  # the first process logs the rest
    logging.basicConfig(level=level)
    steps.setLevel(logging.INFO if leads() else logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Worded("%(levelname)s: %(message)s"))
        handler.addFilter(_Once())
    del version
