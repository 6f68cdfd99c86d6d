"""Replace the names of parameters in messages by the options of the running verb.

The package's functions name a parameter in backticks, such as ```channel```. On the
command line the message must name an option instead: that of the verb that is running,
or else a key of the datalist, or else the option of ``cellseg3d convert``.
"""

import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from typer import Typer
from typer.core import TyperOption
from typer.main import get_command

from cellseg3d.core.errors import CellSegError

# The verbs that take a datalist, and the keys of its cases that say how to read a file.
DATA_VERBS = ("doctor", "plan", "preview", "train", "tune", "benchmark")
CASE_KEYS = ("spacing_um", "channel", "channels", "read_as", "annotated_slices")
_PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)`")


# The name of the running verb, its options by the names of their parameters, and the
# options of `cellseg3d convert`, which can mend a file.
Verb = tuple[str, Mapping[str, str], Mapping[str, str]]
_running: ContextVar[Verb] = ContextVar("verb", default=("", {}, {}))


def running(words: Sequence[str], app: Typer) -> None:
    """Remember which verb the words of a command line call.

    Parameters
    ----------
    words : sequence of str
        The words after the program's name.
    app : Typer
        The application that has the verbs.
    """
    command: Any = get_command(app)
    convert = getattr(command, "commands", {}).get("convert")
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    command = getattr(command, "default", command)
    mending = {} if convert is None else flags_of(convert)
    _running.set((str(command.name), flags_of(command), mending))


def worded(text: str) -> str:
    """Return a message with the running verb's options in place of parameters' names.

    Parameters
    ----------
    text : str
        A message, such as ``"choose it with `channel` (0..2)"``. A name that is not
        known as a parameter stays as it is.
    """
    verb = _running.get()
    return _PARAMETER.sub(lambda found: _said(found[1], verb), text)


def flags_of(command: Any) -> dict[str, str]:  # noqa: ANN401 - click's, or typer's own
    """Return the options of a verb, such as ``--spacing-um Z Y X``, by parameter."""
    return {
        str(option.name): f"{option.opts[0]}{_metavar(option)}"
        for option in command.params
        if isinstance(option, TyperOption)
    }


def line_of(error: CellSegError) -> str:
    """Return an error as one line that names the options of the running verb."""
    return worded(" ".join(str(error).split()))


def _metavar(option: TyperOption) -> str:
    return f" {option.metavar}" if option.metavar and option.nargs > 1 else ""


def _said(name: str, verb: Verb) -> str:
    running_verb, own, convert = verb
    if name in own:
        return own[name]
    if name in CASE_KEYS and running_verb in DATA_VERBS:
        return f'"{name}" in the datalist'
    return f"`cellseg3d convert {convert[name]}`" if name in convert else f"`{name}`"
