"""A progress bar for the reading of one file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None] | None]:
    """Show a progress bar while a file is read, if the error stream is a terminal.

    Parameters
    ----------
    what : str
        The text beside the bar.

    Yields
    ------
    callable or None
        A function to call with the share that is done, in [0, 1]; None without a
        terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)
