"""A progress bar that shows voxels per second and the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def voxel_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on the error stream.

    Parameters
    ----------
    name : str
        The text beside the bar, such as the name of the file that is written.

    Yields
    ------
    callable
        A function to call with the number of voxels done and of all voxels.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text  # noqa: PLC0415

    class Speed(ProgressColumn):
        """A column that shows millions of voxels per second."""

        def render(self, task: Task) -> Text:
            """Return the recent speed, or the mean speed of a finished task."""
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed / 1e6:.1f} Mvoxel/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
