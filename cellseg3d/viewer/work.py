"""Run a function beside the viewer, with a bar and a button that stops it."""

from collections.abc import Callable
from typing import Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from superqt.utils import ensure_main_thread

from cellseg3d.core.errors import CellSegError

# Steps of the bar: Qt's numbers are too small for the voxels of a large volume.
STEPS = 1000
Progress = Callable[[int, int], None]


class Stopped(Exception):  # noqa: N818 - it is no error
    """The user has stopped the work."""


class Work:
    """A bar and two buttons; one function at a time runs in a thread.

    Parameters
    ----------
    title : str
        What the button that starts says.
    start : callable
        Called without arguments when the user presses it; it calls `run`.
    """

    def __init__(self, title: str, start: Callable[[], None]) -> None:
        self.start = PushButton(text=title)
        self.stop = PushButton(text="Stop", enabled=False)
        self.bar = ProgressBar(value=0, max=STEPS, visible=False)
        self.said = Label(value="")
        # A long message must not make the widget as wide as the screen.
        self.said.native.setWordWrap(True)
        self.start.changed.connect(lambda _: start())
        self.stop.changed.connect(lambda _: self.end())
        self.worker: Any = None
        self._stopping = False
        self.widgets = [
            Container(widgets=[self.start, self.stop], layout="horizontal"),
            self.bar,
            self.said,
        ]

    @property
    def busy(self) -> bool:
        """Whether something runs."""
        return self.worker is not None

    def run(
        self, function: Callable[[Progress], Any], done: Callable[[Any], None]
    ) -> None:
        """Run a function in a thread; `done` gets its result in the viewer's.

        Parameters
        ----------
        function : callable
            Called with a function that it tells its progress. That function raises
            `Stopped` when the user has pressed the button.
        done : callable
        """
        if self.busy:
            return
        self._stopping = False
        self._show(busy=True)
        self.said.value = "running"
        worker = create_worker(self._guarded, function)
        worker.returned.connect(lambda outcome: self._finish(outcome, done))
        worker.errored.connect(lambda _: self._finish((None, ""), done))
        self.worker = worker
        worker.start()

    def end(self) -> None:
        """Ask what runs to stop after the part that it is at."""
        if self.worker is not None:
            # A worker of napari that quits says nothing any more, so it is not told.
            self._stopping = True
            self.said.value = "stopping after this part"

    def _guarded(self, function: Callable[[Progress], Any]) -> tuple[Any, str | None]:
        """Return a result, or what to tell the user in its place."""
        try:
            return function(self._progress), None
        except Stopped:
            return None, "stopped"
        except CellSegError as error:
            return None, str(error)

    def _progress(self, done: int, whole: int) -> None:
        if self._stopping:
            raise Stopped
        self._tell(done, whole)

    @ensure_main_thread  # type: ignore[untyped-decorator]
    def _tell(self, done: int, whole: int) -> None:
        self.bar.value = round(STEPS * done / max(1, whole))
        self.said.value = f"{done / 1e6:.2f} of {whole / 1e6:.2f} Mvoxel"

    def _finish(
        self, outcome: tuple[Any, str | None], done: Callable[[Any], None]
    ) -> None:
        result, trouble = outcome
        self.worker = None
        self._show(busy=False)
        self.said.value = "done" if trouble is None else trouble
        if trouble is None:
            done(result)
        elif trouble and trouble != "stopped":
            show_error(trouble)

    def _show(self, *, busy: bool) -> None:
        self.start.enabled = not busy
        self.stop.enabled = busy
        self.bar.visible = busy
        self.bar.value = 0
