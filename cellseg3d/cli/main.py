"""Find the verb, run it, turn errors into one line and an exit code."""

import logging
import os
import sys
import traceback
from importlib import import_module
from io import TextIOWrapper

import typer

from cellseg3d import __version__
from cellseg3d.cli.process import tune_process
from cellseg3d.cli.wording import running, worded
from cellseg3d.core.errors import CellSegError

# In the order a user meets them. Each module is named like its verb and holds a
# function `command`, or a typer app `app` where the verb has verbs of its own.
VERBS = (
    "demo",
    "simulate",
    "inspect",
    "convert",
    "doctor",
    "plan",
    "preview",
    "train",
    "tune",
    "predict",
    "objects",
    "verify-seams",
    "evaluate",
    "measure",
    "benchmark",
    "report",
    "bundle",
)
INTERRUPTED = 130


def leads() -> bool:
    """Whether this is the first, or the only, process that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def build_app() -> typer.Typer:
    """Return the typer application with every verb."""
    app = typer.Typer(
        name="cellseg3d",
        help="Segment cells, nuclei and organelles in 3D microscopy volumes.",
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
        Words after the program's name; those of the process when None.

    Returns
    -------
    int
        0 done, 2 a file or option is wrong, 3 a config is wrong, 4 the machine
        refused (disk, memory, permission), 130 interrupted.
    """
    words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        # A console that has no letter for a file's name must not end the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    tune_process()
    debug = "--debug" in words
    if debug:  # wherever it stands
        words = ["--debug", *(word for word in words if word != "--debug")]
    try:
        code = run(words)
    except Exception as error:
        return _explain(error, debug=debug)
    except KeyboardInterrupt:
        return _interrupted()
    return _interrupted() if code == INTERRUPTED else code


def run(words: list[str]) -> int:
    """Run one command and return its exit code; its errors come through.

    typer turns an interrupt and an early end, such as --help, into a code by itself.
    """
    app = build_app()
    running(words, app)
    code = app(args=words, standalone_mode=False)
    return code if isinstance(code, int) else 0


def _explain(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    ours = isinstance(error, CellSegError)
    if isinstance(error, typer.Abort) or (not ours and _was_interrupted(error)):
        return _interrupted()
    if hasattr(error, "format_message"):  # click's own: a wrong option
        print(f"error: {error.format_message()}", file=sys.stderr)
        return 2
    if isinstance(error, CellSegError):
        print(f"error: {worded(str(error))}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, MemoryError):
        print(f"error: out of memory ({error}); try --max-ram", file=sys.stderr)
        return 4
    if not debug:
        print(
            f"error: {type(error).__name__}: {error} (a fault of cellseg3d; "
            "run again with --debug and report it)",
            file=sys.stderr,
        )
    return 1


def _was_interrupted(error: BaseException) -> bool:
    """Whether a library has wrapped a Ctrl-C, as those do that are being imported."""
    cause: BaseException | None = error
    seen: list[BaseException] = []  # an error raised from itself is a circle
    while cause is not None and cause not in seen:
        if isinstance(cause, KeyboardInterrupt):
            return True
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return False


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


class _Worded(logging.Formatter):
    """Log lines in the words of the verb that is running."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line that names options, not parameters."""
        return worded(super().format(record))


def _show_version(value: bool) -> None:
    if value:
        print(f"cellseg3d {__version__}")
        raise typer.Exit


def _options(
    debug: bool = typer.Option(
        False, "--debug", help="Show a traceback when something fails."
    ),
    verbose: bool = typer.Option(False, "--verbose", help="Log what is being done."),
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show version."
    ),
) -> None:
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    if not leads():
        level = logging.ERROR  # the first process says it
    logging.basicConfig(level=level)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Worded("%(levelname)s: %(message)s"))
    del version
