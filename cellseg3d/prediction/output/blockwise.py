"""Segment a volume chunk by chunk into files, and continue after a crash.

The unfinished files lie in a work folder, ``NAME.partial``, with a journal of the
chunks that are done. At the end all files are moved to their names.
"""

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

from cellseg3d.core.atomic import MARK, environment_fault, write_text
from cellseg3d.core.class_files import class_file_names
from cellseg3d.core.errors import ConfigError, CoverageError, EnvironmentFault
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.io.fingerprint import check_unchanged, state_of
from cellseg3d.io.formats import kind_to_write
from cellseg3d.io.output.ownership import check_replaceable
from cellseg3d.io.output.region_writer import remove
from cellseg3d.io.registry import volume_suffix
from cellseg3d.io.slices import check_fits
from cellseg3d.prediction.expect import KEY as EXPECTED
from cellseg3d.prediction.expect import expected_dice
from cellseg3d.prediction.output.journal import NAME as JOURNAL
from cellseg3d.prediction.output.journal import Finished, Journal, checksum
from cellseg3d.prediction.output.store import Store, put_in_place
from cellseg3d.prediction.pipeline import Chunk, Pipeline, Progress

_log = logging.getLogger(__name__)
LOCK = "lock"
# A function that is given the chunks to do and yields each one when it is done, with
# its arrays, unless it wrote them itself.
Runner = Callable[[Sequence[Roi]], Iterator[Finished]]


@dataclass(frozen=True)
class Output:
    """The files that one segmentation writes.

    Parameters
    ----------
    labels : Path
        The file of the labels.
    stores : tuple of Store
        The labels, then the probabilities of each class, then the uncertainty.
    source : str
        The file that is segmented. It must not change in the meantime.
    classes : tuple of str
        Names of the classes, background first.
    extras : tuple of Extra
        Files that are made from the finished ones, in this order, before all are moved
        to their names.
    """

    labels: Path
    stores: tuple[Store, ...]
    source: str
    classes: tuple[str, ...]
    extras: "tuple[Extra, ...]" = ()

    @property
    def work(self) -> Path:
        """The folder of the unfinished output."""
        return work_folder(self.labels)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files; the labels come last, so that all others exist when they do."""
        others = [store.path for store in self.stores[1:]]
        more = [extra.path for extra in self.extras]
        return (*others, *more, sidecar(self.labels), self.labels)


@dataclass(frozen=True)
class Extra:
    """A file that is made from the other outputs, such as single objects.

    Parameters
    ----------
    path : Path
        Where the file ends up.
    make : callable
        Is called with the path of the finished labels in the work folder, and writes
        the file beside them, under its name.
    """

    path: Path
    make: Callable[[Path], None]


def work_folder(path: Path) -> Path:
    """Return the folder of an unfinished output: its name and ``.partial``."""
    return path.with_name(f"{path.name}.partial")


def times_folder(path: Path) -> Path:
    """Return the folder of the time points of an unfinished output of several."""
    return path.with_name(f"{path.name}.times")


def is_unfinished(labels: Path) -> bool:
    """Return whether an output was begun and is not complete, or is being written.

    A work folder that holds nothing but the lock of a killed process is removed.
    """
    work = work_folder(labels)
    if times_folder(labels).is_dir():
        return True
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
    extras: Sequence[Extra] = (),
) -> Output:
    """Return the files into which the answers of a pipeline are written.

    Parameters
    ----------
    labels : Path
        ``NAME_labels.SUFFIX``; probabilities go to ``NAME_prob_CLASS.SUFFIX``.
    volume : Volume
        The volume that is predicted; the answers have its grid.
    pipeline : Pipeline
    classes : sequence of str
        Names of the classes, which name the files of the probabilities.
    probs_dtype : {"uint8", "float16", "float32"}
        The dtype of probabilities; uint8 holds them in 255ths. MRC has no unsigned
        bytes and gets float16 instead.
    final : Volume, optional
        The volume whose grid the finished files have, if `volume` was resampled.
    extras : sequence of Extra
        See `Output`.

    Raises
    ------
    FormatError
        If the format cannot hold the answers.
    """
    names = [(labels, np.dtype("uint8"), True)]
    if pipeline.probs:
        dtype = share_dtype(labels, probs_dtype)
        names += [(path, dtype, False) for path in prob_paths(labels, classes)]
    if pipeline.uncertainty:
        names.append((beside(labels, "uncertainty"), share_dtype(labels), False))
    for path, dtype, _ in names:
        if kind_to_write(path) in ("png", "folder"):
            check_fits(path, (final or volume).shape[0], dtype)
    work = work_folder(labels)
    stores = [
        Store(path, work, volume, dtype, pipeline.chunk, is_labels, final)
        for path, dtype, is_labels in names
    ]
    source = (final or volume).name
    return Output(labels, tuple(stores), source, tuple(classes), tuple(extras))


def prob_paths(labels: Path, classes: Sequence[str]) -> list[Path]:
    """Return the files of the probabilities of each class; no two are the same."""
    return [beside(labels, f"prob_{word}") for word in class_file_names(classes)]


def share_dtype(path: Path, wanted: str = "uint8") -> np.dtype[Any]:
    """Return the dtype in which a file's format holds numbers in [0, 1].

    MRC gets float16 instead of uint8: it would widen bytes to 16 bits, and a reader
    could not tell that 255 stands for 1.
    """
    widens = kind_to_write(path) == "mrc"
    return np.dtype("float16" if widens and wanted == "uint8" else wanted)


def beside(labels: Path, what: str, suffix: str | None = None) -> Path:
    """Return the file of another output of the same segmentation.

    It has the suffix of the labels unless another one is given.
    """
    own = volume_suffix(labels.name)
    stem = labels.name[: len(labels.name) - len(own)].removesuffix("_labels")
    return labels.with_name(f"{stem}_{what}{own if suffix is None else suffix}")


def arrays_of(answer: Chunk, stores: Sequence[Store]) -> list[NDArray[Any]]:
    """Return a chunk's arrays in the order and dtypes of the stores."""
    arrays: list[NDArray[Any]] = [answer.labels]
    if answer.probs is not None:
        arrays += list(answer.probs)
    if answer.uncertainty is not None:
        arrays.append(answer.uncertainty)
    return [
        as_stored(array, store.dtype)
        for array, store in zip(arrays, stores, strict=True)
    ]


def finished(chunk: Roi, answer: Chunk, stores: Sequence[Store]) -> Finished:
    """Return a chunk's answer in the form in which it is written and noted."""
    arrays = arrays_of(answer, stores)
    sums = None if answer.sums is None else answer.sums.tolist()
    return Finished(chunk, checksum(*arrays), arrays, sums)


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
    """Run a pipeline over all chunks that are not done yet, and complete the files.

    All files are moved to their names together, at the end. If the process is killed
    while they are moved, calling this again moves the rest.

    Parameters
    ----------
    pipeline : Pipeline
    output : Output
    task : dict
        What makes this segmentation the same as an earlier one; see `Journal`.
    notes : dict
        The metadata of the files.
    overwrite : bool
        Whether to replace files that exist and an unfinished segmentation of another
        task.
    progress : callable, optional
        Is called after each chunk with the voxels done and the voxels in all.
    runner : callable, optional
        Runs the chunks, perhaps elsewhere. When None, they run in this process, one
        after another.

    Returns
    -------
    Path
        The file of the labels.

    Raises
    ------
    ConfigError
        If a file exists and `overwrite` is False.
    InputError
        If the source was changed in the meantime.
    EnvironmentFault
        If another process is writing this output, or the disk is full.
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
                message = (
                    f"{output.labels}: {total - covered} of {total} voxels were not "
                    f"written; remove {output.work} and run again"
                )
                raise CoverageError(message)
            check_unchanged(output.source, state)
            expected = expected_dice(pipeline, output.classes, journal.sums)
            _finish(output, notes, expected)
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
            message = f"{path}: exists already; pass `overwrite` to replace it"
            raise ConfigError(message)


def _finish(
    output: Output, notes: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    """Complete all files in the work folder."""
    for store in output.stores:
        store.finish(notes)
    for extra in output.extras:
        extra.make(output.work / output.labels.name)
    if expected is not None:
        record = {**notes.get("segmentation", {}), EXPECTED: expected}
        notes = {**notes, "segmentation": record}
    _write_record(output.work / sidecar(output.labels).name, notes)


def _clear(output: Output, journal: Journal) -> None:
    """Empty the work folder, except for the lock and the journal.

    The journal goes last, because without it the folder would be refused as a stranger.
    """
    for path in output.work.iterdir():
        if path not in (journal.path, output.work / LOCK):
            remove(path)


def _here(pipeline: Pipeline, output: Output) -> Runner:
    def work(chunks: Sequence[Roi]) -> Iterator[Finished]:
        for chunk, answer in pipeline.results(chunks):
            yield finished(chunk, answer, output.stores)

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
        _log.info(
            "%s: %.0f %% was done before; the rest follows",
            output.labels,
            100 * done / total,
        )
    with finish_first() as asked_to_stop:
        for found in runner(waiting):
            if found.arrays is not None:
                for store, array in zip(output.stores, found.arrays, strict=True):
                    store.write(found.chunk, array)
            journal.add(found)
            done += found.chunk.size
            if progress is not None:
                progress(done, total)
            if asked_to_stop.is_set():
                raise KeyboardInterrupt


def _open_journal(
    journal: Journal, output: Output, notes: dict[str, Any], *, overwrite: bool
) -> None:
    """Read the journal, and drop chunks whose voxels do not have its checksums."""
    journal.open(overwrite=overwrite)
    if journal.complete:
        return
    for store in output.stores:
        store.prepare(notes, anew=not journal.done)
    for chunk, known in list(journal.done.items()):
        if checksum(*(store.read(chunk) for store in output.stores)) != known:
            _log.warning(
                "%s: chunk %s is damaged, so it is computed again", output.labels, chunk
            )
            del journal.done[chunk]


def sidecar(labels: Path) -> Path:
    """Return the JSON file that records how a label file was made."""
    suffix = volume_suffix(labels.name)
    return labels.with_name(f"{labels.name[: len(labels.name) - len(suffix)]}.json")


def _write_record(place: Path, notes: dict[str, Any]) -> None:
    """Write the metadata of the files as JSON."""
    text = json.dumps(notes, indent=2, sort_keys=True) + "\n"
    write_text(place, text)


@contextmanager
def _locked(output: Output) -> Iterator[None]:
    """Lock the work folder; the system frees the lock if the process dies."""
    _refuse_strangers(output)
    try:
        output.work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output.work / LOCK)
        lock.acquire(blocking=False)
    except Timeout as error:
        message = (
            f"{output.work}: another process is writing this output; wait until it ends"
        )
        raise EnvironmentFault(message) from error
    except OSError as error:
        raise environment_fault(error, output.work) from error
    try:
        yield
    finally:
        lock.release()


def _refuse_strangers(output: Output) -> None:
    """Refuse a work folder that has no journal and holds files of others."""
    work = output.work
    if not work.exists() or (work / JOURNAL).is_file():
        return
    known = {LOCK, *(path.name for path in output.files)}
    for path in work.iterdir() if work.is_dir() else [work]:
        if path.name not in known and not path.name.startswith(f".{MARK}"):
            message = (
                f"{path}: was not written by cellseg3d, which needs the name "
                f"{work.name} for its unfinished output; move it away"
            )
            raise EnvironmentFault(message)


@contextmanager
def finish_first() -> Iterator[threading.Event]:
    """Let the current chunk finish when SIGINT or SIGTERM asks the process to stop.

    The event that is yielded is set by the first signal. A second signal stops the
    process at once. In other threads than the main one signals are not handled.
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
