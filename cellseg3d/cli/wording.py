"""Say in a verb's own options what the layers below call a parameter.

Below the command line, a message names a parameter in backticks, such as
```channel```. Here it becomes the option of the verb that is running; where the verb
has none, the datalist's key or the option of ``cellseg3d convert``, so that every
advice can be followed.
"""

import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from typer import Typer
from typer.core import TyperOption
from typer.main import get_command

from cellseg3d.core.errors import CellSegError

# Verbs whose data may be a datalist, and the keys of a case that say how it is read.
DATA_VERBS = ("doctor", "plan", "preview", "train", "tune", "benchmark")
CASE_KEYS = ("spacing_um", "channel", "read_as")
_PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)`")


# The verb that is running, its options by the names of their parameters, and those of
# `cellseg3d convert`, with which a file can be mended.
Verb = tuple[str, Mapping[str, str], Mapping[str, str]]
_running: ContextVar[Verb] = ContextVar("verb", default=("", {}, {}))


def running(words: Sequence[str], app: Typer) -> None:
    """Remember which verb of an application the words of a command line name."""
    command: Any = get_command(app)
    convert = getattr(command, "commands", {}).get("convert")
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    mending = {} if convert is None else flags_of(convert)
    _running.set((str(command.name), flags_of(command), mending))


def worded(text: str) -> str:
    """Return a message with the running verb's options in place of parameters' names.

    Parameters
    ----------
    text : str
        A message, such as ``"pick it with `channel` (0..2)"``.
    """
    verb = _running.get()
    return _PARAMETER.sub(lambda found: _said(found[1], verb), text)


def flags_of(command: Any) -> dict[str, str]:  # noqa: ANN401 - click's, or typer's own
    """Return the options of a verb by the names of their parameters."""
    return {
        str(option.name): f"{option.opts[0]}{_metavar(option)}"
        for option in command.params
        if isinstance(option, TyperOption)
    }


def line_of(error: CellSegError) -> str:
    """Return an error as one line, in the options of the verb that is running."""
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
