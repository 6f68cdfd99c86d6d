"""Run a function in a thread, with a progress bar and a button that stops it."""

from collections.abc import Callable
from typing import Any

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from superqt.utils import ensure_main_thread

from cellseg3d.core.errors import CellSegError

# Steps of the bar. Qt's numbers are too small for the voxels of a large volume.
STEPS = 1000
Progress = Callable[[int, int], None]


class Stopped(Exception):  # noqa: N818 - it is no error
    """The user has stopped the work."""


class Work:
    """Two buttons and a progress bar for a function that runs in a thread.

    One function runs at a time.

    Parameters
    ----------
    title : str
        The text of the button that starts.
    start : callable
        Is called without arguments when the user presses that button; it calls `run`.
    unit : str
        The unit in which progress is shown.
    per_unit : int
        How many of the numbers that the function tells make one unit.
    """

    def __init__(
        self,
        title: str,
        start: Callable[[], None],
        unit: str = "Mvoxel",
        per_unit: int = 1_000_000,
    ) -> None:
        self.unit, self.per_unit = unit, per_unit
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
        """Whether a function runs."""
        return self.worker is not None

    def run(
        self, function: Callable[[Progress], Any], done: Callable[[Any], None]
    ) -> None:
        """Run a function in a thread, and pass its result on in the viewer's thread.

        Parameters
        ----------
        function : callable
            Is called with a function to which it tells its progress. That function
            raises `Stopped` when the user has pressed the button that stops.
        done : callable
            Is called with the result.
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
        """Let the running function stop when it next tells its progress."""
        if self.worker is not None:
            # A worker that is told to quit sends no signals, so it is not told.
            self._stopping = True
            self.said.value = "stopping after this part"

    def _guarded(self, function: Callable[[Progress], Any]) -> tuple[Any, str | None]:
        """Return a result, or None with a message for the user."""
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
        digits = 2 if self.per_unit > 1 else 0
        one, all_ = (f"{count / self.per_unit:.{digits}f}" for count in (done, whole))
        self.said.value = f"{one} of {all_} {self.unit}"

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
