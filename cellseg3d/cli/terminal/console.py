"""The console on which the verbs print their tables."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH = 160


def table_console() -> "Console":
    """Return a console as wide as the terminal, or `LOG_WIDTH` columns in a log file.

    Rich takes 80 columns for a file, in which tables are cut off.
    """
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)
