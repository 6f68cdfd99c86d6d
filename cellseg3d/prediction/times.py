"""Segment every time point of a file into one file that keeps the axis of time.

Each time point is segmented by itself, with the memory of one, into files of its own in
the folder ``NAME.times``. At the end they are joined, and the folder is removed.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.atomic import make_folder, write_text
from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.io.formats import kind_to_write
from cellseg3d.io.output.ownership import check_replaceable
from cellseg3d.io.output.region_writer import remove
from cellseg3d.io.output.writing import write_times
from cellseg3d.io.registry import Opening, open_volume
from cellseg3d.prediction.batch import (
    Task,
    files_of,
    is_complete,
    read_record,
    segment_task,
)
from cellseg3d.prediction.expect import KEY as EXPECTED
from cellseg3d.prediction.opening import open_for
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.output.blockwise import sidecar, times_folder

# Formats that hold one volume.
_WITHOUT_TIME = ("mrc", "png", "folder")
# A time point goes on where it was stopped, whatever the format of the joined file.
_PART_SUFFIX = ".ome.zarr"


@dataclass(frozen=True)
class _Series:
    """The tasks of the time points of one task, and the files that they are joined to.

    Parameters
    ----------
    task : Task
        The file to segment, and the file of all its labels.
    parts : tuple of Task
        One task for each time point.
    files : tuple of tuple of Path
        For each file of `task`, labels first, the files of the time points.
    """

    task: Task
    parts: tuple[Task, ...]
    files: dict[Path, tuple[Path, ...]]


def segment_times(
    task: Task,
    models: Sequence[TrainedModel],
    options: SegmentOptions,
    opening: Opening | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    find_objects: Callable[[Task], None] | None = None,
) -> dict[str, Any]:
    """Segment all time points of a file into one file; return what was done.

    If the process is killed, calling this again goes on with the time point that was
    begun. Intensities are scaled anew for each time point, and objects are numbered
    anew.

    Parameters
    ----------
    task, models, options, opening, overwrite, progress, find_objects
        As for `cellseg3d.prediction.batch.segment_task`.

    Returns
    -------
    dict
        As `segment_task` returns it, with the number of time points as ``"times"``.

    Raises
    ------
    AxisError
        If the file has no time points.
    ConfigError
        If the format of the results holds no time points, or they exist already.
    InputError
        If the file cannot be used, or was changed after some time points were done.
    """
    told: Opening = {**(opening or {}), "time": 0}
    count = int(open_for(task.source, models, **told).provenance.get("times", 1))
    if count < 2:
        raise AxisError(
            f"{task.source}: has no axis of time; leave out `time`, or say what its "
            "axes are with `read_as`, such as times"
        )
    if options.overlay:
        raise ConfigError(
            "`overlay` draws one volume; leave it out for all time points, or choose "
            "one of them with `time`"
        )
    found = find_objects is not None
    series = _series(task, count, models[0].classes, options, objects=found)
    folder = times_folder(task.labels)
    _check(series, folder, overwrite=overwrite)
    make_folder(folder)
    reports = []
    for number, part in enumerate(series.parts):
        wanted = files_of(part, models[0].classes, options, objects=found)
        told = {**told, "time": number}
        if is_complete(part, wanted, models, told):
            continue
        reports.append(
            segment_task(
                part,
                models,
                options,
                told,
                progress=_of_all(progress, number, count),
                find_objects=find_objects,
            )
        )
    _join(series, count)
    remove(folder)
    return _report(task, count, reports)


def _series(
    task: Task,
    count: int,
    classes: Sequence[str],
    options: SegmentOptions,
    *,
    objects: bool,
) -> _Series:
    digits = max(4, len(str(count - 1)))
    folder = times_folder(task.labels)
    parts = tuple(
        Task(task.source, folder / f"t{number:0{digits}}_labels{_PART_SUFFIX}")
        for number in range(count)
    )
    each = [files_of(part, classes, options, objects=objects) for part in parts]
    whole = files_of(task, classes, options, objects=objects)
    return _Series(task, parts, dict(zip(whole, zip(*each, strict=True), strict=True)))


def _check(series: _Series, folder: Path, *, overwrite: bool) -> None:
    """Refuse files that exist, and formats without time, before any work is done."""
    labels = series.task.labels
    if kind_to_write(labels) in _WITHOUT_TIME:
        raise ConfigError(
            f"{labels}: this format holds one volume, not {len(series.parts)} time "
            "points; choose another `suffix`, such as .ome.tif, .ome.zarr or .h5"
        )
    if overwrite and folder.is_dir():
        remove(folder)
    begun = folder.is_dir()
    for path in series.files:
        check_replaceable(path)
        if path.exists() and not (overwrite or begun):
            raise ConfigError(f"{path}: exists already; pass `overwrite` to replace it")


def _join(series: _Series, count: int) -> None:
    """Write the files of all time points; the labels come last."""
    labels, record = series.task.labels, sidecar(series.task.labels)
    made = [path for path in series.files if path not in (labels, record)]
    for path in (*made, record, labels):
        parts = series.files[path]
        if path == record:
            known = read_record(series.parts[0].labels)
            record = known.setdefault("segmentation", {})
            record["times"] = count
            every = [_expected(part) for part in series.parts]
            if any(every):
                record[EXPECTED] = {"times": every}
            write_text(path, json.dumps(known, indent=2, sort_keys=True) + "\n")
            continue
        volumes = [open_volume(part) for part in parts]
        first = volumes[0]
        notes = {**first.provenance, "path": series.task.source}
        volumes[0] = replace(first, provenance=notes)
        ids = path in (labels, series.task.objects)
        write_times(path, volumes, labels=ids)


def _expected(part: Task) -> Any:  # noqa: ANN401
    return read_record(part.labels).get("segmentation", {}).get(EXPECTED)


def _of_all(
    progress: Callable[[int, int], None] | None, number: int, count: int
) -> Callable[[int, int], None] | None:
    """Return a function that tells the progress of one time point as that of all."""
    if progress is None:
        return None
    tell = progress
    return lambda done, total: tell(number * total + done, count * total)


def _report(
    task: Task, count: int, reports: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the sum of the reports of the time points that were segmented now."""
    volume = open_volume(task.labels, time=0)
    sources = read_record(task.labels)["segmentation"]["sources"]
    voxels = sum(each["voxels"] for each in reports)
    elapsed = sum(each["elapsed_s"] for each in reports)
    return {
        "volume": task.source,
        "labels": str(task.labels),
        "times": count,
        "shape": list(volume.shape),
        "spacing_um": None if volume.spacing is None else list(volume.spacing.zyx),
        "voxels": voxels,
        "elapsed_s": elapsed,
        "voxels_per_s": voxels / max(elapsed, 1e-9),
        "picked": "{backend} on {device} in {precision}".format(**sources[0]),
        "sources": sources,
    }
