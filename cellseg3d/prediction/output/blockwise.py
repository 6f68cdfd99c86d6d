"""Segment chunk by chunk into files: bounded memory, resumed after any crash."""

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cellseg3d.core.atomic import MARK, atomic_write, environment_fault
from cellseg3d.core.class_files import class_file_names
from cellseg3d.core.errors import ConfigError, CoverageError, EnvironmentFault
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.io.fingerprint import check_unchanged, state_of
from cellseg3d.io.formats import kind_to_write
from cellseg3d.io.ownership import check_replaceable
from cellseg3d.io.region_writer import remove
from cellseg3d.io.registry import volume_suffix
from cellseg3d.prediction.output.journal import NAME as JOURNAL
from cellseg3d.prediction.output.journal import Journal, checksum
from cellseg3d.prediction.output.store import Store, put_in_place
from cellseg3d.prediction.pipeline import Chunk, Pipeline, Progress

_log = logging.getLogger(__name__)
LOCK = "lock"
# Work on chunks: given those to do, yields each with its arrays when it is done.
Runner = Callable[[Sequence[Roi]], Iterator[tuple[Roi, "list[NDArray[Any]] | int"]]]


@dataclass(frozen=True)
class Output:
    """The files that one segmentation writes, and the folder they grow in.

    Parameters
    ----------
    labels : Path
        Name of the label volume.
    stores : tuple of Store
        Labels first, then probabilities of each class, then uncertainty.
    source : str
        The file that is segmented; must not change meanwhile.
    extra : Extra, optional
        What is made of the finished files before any of them gets its name.
    """

    labels: Path
    stores: tuple[Store, ...]
    source: str
    extra: "Extra | None" = None

    @property
    def work(self) -> Path:
        """The folder of the unfinished output."""
        return work_folder(self.labels)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, the labels last: where these are, everything is."""
        others = [store.path for store in self.stores[1:]]
        more = [] if self.extra is None else [self.extra.path]
        return (*others, *more, sidecar(self.labels), self.labels)


@dataclass(frozen=True)
class Extra:
    """A file that is made of the other outputs, such as single objects.

    Parameters
    ----------
    path : Path
        Its name.
    make : callable
        Given where the finished labels lie, writes it beside them, under its name.
    """

    path: Path
    make: Callable[[Path], None]


def work_folder(path: Path) -> Path:
    """Return where an output grows: its name and ``.partial``."""
    return path.with_name(f"{path.name}.partial")


def is_unfinished(labels: Path) -> bool:
    """Whether an output was begun and is not complete, or is being written.

    A work folder that a killed process had all but removed is removed.
    """
    work = work_folder(labels)
    if not work.is_dir():
        return False
    if (work / JOURNAL).is_file() or {each.name for each in work.iterdir()} != {LOCK}:
        return True
    lock = FileLock(work / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    remove(work)
    return False


def output_of(
    labels: Path,
    volume: Volume,
    pipeline: Pipeline,
    classes: Sequence[str],
    probs_dtype: str = "uint8",
    final: Volume | None = None,
    extra: Extra | None = None,
) -> Output:
    """Return the files that a pipeline's answers go to.

    Parameters
    ----------
    labels : Path
        ``NAME_labels.SUFFIX``; probabilities become ``NAME_prob_CLASS.SUFFIX``.
    volume : Volume
        Gives the grid.
    pipeline : Pipeline
    classes : sequence of str
    probs_dtype : {"uint8", "float16", "float32"}
        uint8 holds probabilities in 255ths; MRC, which knows no unsigned bytes,
        gets float16 instead.
    final : Volume, optional
        The grid of the finished files, where `volume` is resampled from it.
    extra : Extra, optional
        See `Output`.
    """
    names = [(labels, np.dtype("uint8"), True)]
    if pipeline.probs:
        dtype = share_dtype(labels, probs_dtype)
        names += [(path, dtype, False) for path in prob_paths(labels, classes)]
    if pipeline.uncertainty:
        names.append((beside(labels, "uncertainty"), share_dtype(labels), False))
    work = work_folder(labels)
    stores = [
        Store(path, work, volume, dtype, pipeline.chunk, is_labels, final)
        for path, dtype, is_labels in names
    ]
    return Output(labels, tuple(stores), (final or volume).name, extra)


def prob_paths(labels: Path, classes: Sequence[str]) -> list[Path]:
    """Return the names of the probabilities of each class, no two the same."""
    return [beside(labels, f"prob_{word}") for word in class_file_names(classes)]


def share_dtype(path: Path, wanted: str = "uint8") -> np.dtype[Any]:
    """Return the dtype that a format keeps shares in [0, 1] in.

    MRC would widen bytes to 16 bits, of which nobody could tell what one is.
    """
    widens = kind_to_write(path) == "mrc"
    return np.dtype("float16" if widens and wanted == "uint8" else wanted)


def beside(labels: Path, what: str) -> Path:
    """Return the name of another output of the same segmentation."""
    suffix = volume_suffix(labels.name)
    stem = labels.name[: len(labels.name) - len(suffix)].removesuffix("_labels")
    return labels.with_name(f"{stem}_{what}{suffix}")


def arrays_of(answer: Chunk, stores: Sequence[Store]) -> list[NDArray[Any]]:
    """Return a chunk's voxels in the order and dtypes of the stores."""
    arrays: list[NDArray[Any]] = [answer.labels]
    if answer.probs is not None:
        arrays += list(answer.probs)
    if answer.uncertainty is not None:
        arrays.append(answer.uncertainty)
    return [
        as_stored(array, store.dtype)
        for array, store in zip(arrays, stores, strict=True)
    ]


def as_stored(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return probabilities in the dtype of a file; uint8 holds 255ths."""
    if dtype.kind == "u" and array.dtype.kind == "f":
        array = np.rint(array * 255)
    stored: NDArray[Any] = array.astype(dtype, copy=False)
    return stored


def write_chunks(
    pipeline: Pipeline,
    output: Output,
    task: dict[str, Any],
    notes: dict[str, Any],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> Path:
    """Run a pipeline over all chunks that are not done yet; complete the files.

    All files get their names together, at the end. Killed meanwhile and called again,
    it goes on with giving names.

    Parameters
    ----------
    pipeline : Pipeline
    output : Output
    task : dict
        What distinguishes this segmentation from any other; see `Journal`.
    notes : dict
        What the files say about themselves.
    overwrite : bool
        Replace files that are there, and an unfinished segmentation of another kind.
    progress : callable, optional
        Called with voxels done and voxels in all.
    runner : callable, optional
        Works on the chunks elsewhere; here, one after another, when None.

    Returns
    -------
    Path
        The label volume.

    Raises
    ------
    ConfigError
        If an output is there already and `overwrite` is False.
    InputError
        If the source was changed meanwhile.
    EnvironmentFault
        If another process is writing it, or the disk is full.
    """
    state = state_of(output.source)
    is_unfinished(output.labels)
    journal = Journal(output.work, task)
    _refuse_to_replace(output, overwrite=overwrite or journal.goes_on())
    with _locked(output):
        _open_journal(journal, output, notes, overwrite=overwrite)
        if not journal.complete:
            _run(pipeline, output, journal, progress, runner or _here(pipeline, output))
            total = Roi.whole(pipeline.shape).size
            covered = sum(roi.size for roi in journal.done)
            if covered != total:
                message = f"{output.labels}: {total - covered} voxels were not written"
                raise CoverageError(message)
            check_unchanged(output.source, state)
            _finish(output, notes)
            journal.finish()
        for path in output.files:
            done = output.work / path.name
            if done.exists():
                put_in_place(done, path)
        _clear(output, journal)
    remove(journal.path)
    remove(output.work)
    return output.labels


def _refuse_to_replace(output: Output, *, overwrite: bool) -> None:
    for path in output.files:
        check_replaceable(path)
        if path.exists() and not overwrite:
            message = f"{path}: is there already; pass --overwrite to replace it"
            raise ConfigError(message)


def _finish(output: Output, notes: dict[str, Any]) -> None:
    """Complete all files in the work folder."""
    for store in output.stores:
        store.finish(notes)
    if output.extra is not None:
        output.extra.make(output.work / output.labels.name)
    _write_record(output.work / sidecar(output.labels).name, notes)


def _clear(output: Output, journal: Journal) -> None:
    """Empty the work folder but for the journal, which says what the rest is."""
    for path in output.work.iterdir():
        if path not in (journal.path, output.work / LOCK):
            remove(path)


def _here(pipeline: Pipeline, output: Output) -> Runner:
    def work(chunks: Sequence[Roi]) -> Iterator[tuple[Roi, list[NDArray[Any]]]]:
        for chunk, answer in pipeline.results(chunks):
            yield chunk, arrays_of(answer, output.stores)

    return work


def _run(
    pipeline: Pipeline,
    output: Output,
    journal: Journal,
    progress: Progress | None,
    runner: Runner,
) -> None:
    total = Roi.whole(pipeline.shape).size
    waiting = [chunk for chunk in pipeline.chunks() if chunk not in journal.done]
    done = total - sum(chunk.size for chunk in waiting)
    if done:
        _log.info("%s: going on after %.0f %%", output.labels, 100 * done / total)
    with finish_first() as asked_to_stop:
        for chunk, found in runner(waiting):
            if isinstance(found, int):
                journal.add(chunk, found)
            else:
                for store, array in zip(output.stores, found, strict=True):
                    store.write(chunk, array)
                journal.add(chunk, checksum(*found))
            done += chunk.size
            if progress is not None:
                progress(done, total)
            if asked_to_stop.is_set():
                raise KeyboardInterrupt


def _open_journal(
    journal: Journal, output: Output, notes: dict[str, Any], *, overwrite: bool
) -> None:
    """Read the journal; leave out chunks whose voxels are not what it says."""
    journal.open(overwrite=overwrite)
    if journal.complete:
        return
    for store in output.stores:
        store.prepare(notes, anew=not journal.done)
    for chunk, known in list(journal.done.items()):
        if checksum(*(store.read(chunk) for store in output.stores)) != known:
            _log.warning("%s: chunk %s is damaged; done again", output.labels, chunk)
            del journal.done[chunk]


def sidecar(labels: Path) -> Path:
    """Return the name of the JSON file that says how a label file came about."""
    suffix = volume_suffix(labels.name)
    return labels.with_name(f"{labels.name[: len(labels.name) - len(suffix)]}.json")


def _write_record(place: Path, notes: dict[str, Any]) -> None:
    """Write what the files say about themselves, whatever their format."""
    text = json.dumps(notes, indent=2, sort_keys=True) + "\n"

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    atomic_write(place, write)


@contextmanager
def _locked(output: Output) -> Iterator[None]:
    """Hold the work folder; the lock dies with the process that holds it."""
    _refuse_strangers(output)
    try:
        output.work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output.work / LOCK)
        lock.acquire(blocking=False)
    except Timeout as error:
        message = f"{output.work}: another process is writing this output; wait for it"
        raise EnvironmentFault(message) from error
    except OSError as error:
        raise environment_fault(error, output.work) from error
    try:
        yield
    finally:
        lock.release()


def _refuse_strangers(output: Output) -> None:
    """Refuse a folder that only happens to have the name of an unfinished output."""
    work = output.work
    if not work.exists() or (work / JOURNAL).is_file():
        return
    known = {LOCK, *(path.name for path in output.files)}
    for path in work.iterdir() if work.is_dir() else [work]:
        if path.name not in known and not path.name.startswith(f".{MARK}"):
            message = (
                f"{path}: was not written by cellseg3d, and {work.name} is the name "
                "of unfinished output; move it away"
            )
            raise EnvironmentFault(message)


@contextmanager
def finish_first() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a wish to stop, so a chunk is finished.

    A second one stops at once. Outside the main thread signals are left alone.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: Any) -> None:  # noqa: ANN401
        del frame
        if asked.is_set() or number == 0:
            raise KeyboardInterrupt
        asked.set()

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
