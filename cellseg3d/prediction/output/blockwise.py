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

from cellseg3d.core.atomic import atomic_write, environment_fault
from cellseg3d.core.errors import ConfigError, CoverageError, EnvironmentFault
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.io.formats import kind_to_write
from cellseg3d.io.region_writer import remove
from cellseg3d.io.registry import volume_suffix
from cellseg3d.prediction.output.journal import Journal, checksum
from cellseg3d.prediction.output.store import Store, put_in_place
from cellseg3d.prediction.pipeline import Chunk, Pipeline

_log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
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
    """

    labels: Path
    stores: tuple[Store, ...]

    @property
    def work(self) -> Path:
        """The folder of the unfinished output."""
        return work_folder(self.labels)


def work_folder(path: Path) -> Path:
    """Return where an output grows: its name and ``.partial``."""
    return path.with_name(f"{path.name}.partial")


def output_of(
    labels: Path,
    volume: Volume,
    pipeline: Pipeline,
    classes: Sequence[str],
    probs_dtype: str = "uint8",
    final: Volume | None = None,
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
    """
    names = [(labels, np.dtype("uint8"), True)]
    if pipeline.probs:
        dtype = share_dtype(labels, probs_dtype)
        names += [(beside(labels, f"prob_{name}"), dtype, False) for name in classes]
    if pipeline.uncertainty:
        names.append((beside(labels, "uncertainty"), share_dtype(labels), False))
    work = work_folder(labels)
    stores = [
        Store(path, work, volume, dtype, pipeline.chunk, is_labels, final)
        for path, dtype, is_labels in names
    ]
    return Output(labels, tuple(stores))


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
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in what)
    return labels.with_name(f"{stem}_{safe}{suffix}")


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
    EnvironmentFault
        If another process is writing it, or the disk is full.
    """
    for store in output.stores:
        if store.path.exists() and not overwrite:
            message = f"{store.path}: is there already; pass --overwrite to replace it"
            raise ConfigError(message)
    with _locked(output):
        journal = _open_journal(output, task, notes, overwrite=overwrite)
        _run(pipeline, output, journal, progress, runner or _here(pipeline, output))
        total = Roi.whole(pipeline.shape).size
        covered = sum(roi.size for roi in journal.done)
        if covered != total:
            message = f"{output.labels}: {total - covered} voxels were never written"
            raise CoverageError(message)
        for store in output.stores:
            put_in_place(store.finish(notes), store.path)
        _write_record(output, notes)
        journal.forget()
    remove(output.work)
    return output.labels


def _here(pipeline: Pipeline, output: Output) -> Runner:
    def work(chunks: Sequence[Roi]) -> Iterator[tuple[Roi, list[NDArray[Any]]]]:
        for chunk in chunks:
            yield chunk, arrays_of(pipeline.run(chunk), output.stores)

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
    output: Output, task: dict[str, Any], notes: dict[str, Any], *, overwrite: bool
) -> Journal:
    """Return the journal, without chunks whose voxels are not what it says."""
    journal = Journal(output.work, task)
    journal.open(overwrite=overwrite)
    for store in output.stores:
        store.prepare(notes, anew=not journal.done)
    for chunk, known in list(journal.done.items()):
        if checksum(*(store.read(chunk) for store in output.stores)) != known:
            _log.warning("%s: chunk %s is damaged; done again", output.labels, chunk)
            del journal.done[chunk]
    return journal


def sidecar(labels: Path) -> Path:
    """Return the name of the JSON file that says how a label file came about."""
    suffix = volume_suffix(labels.name)
    return labels.with_name(f"{labels.name[: len(labels.name) - len(suffix)]}.json")


def _write_record(output: Output, notes: dict[str, Any]) -> None:
    """Write what the files say about themselves beside them, whatever the format."""
    text = json.dumps(notes, indent=2, sort_keys=True) + "\n"

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    atomic_write(sidecar(output.labels), write)


@contextmanager
def _locked(output: Output) -> Iterator[None]:
    """Hold the work folder; the lock dies with the process that holds it."""
    try:
        output.work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise environment_fault(error, output.work) from error
    lock = FileLock(output.work / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        message = f"{output.work}: another process is writing this output; wait for it"
        raise EnvironmentFault(message) from error
    try:
        yield
    finally:
        lock.release()


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
