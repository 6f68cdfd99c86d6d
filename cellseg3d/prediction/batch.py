"""Segment many volumes, one after another, each into files of its own.

This module lists the volumes that the user named, picks the names of the results,
tells which results are complete, and segments one volume at a time.
"""

import gc
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.atomic import atomic_write, write_text
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.io.fingerprint import fingerprint
from cellseg3d.io.listing import FOLDERS, FolderContent, content_of
from cellseg3d.io.output.overlay import overlay_picture
from cellseg3d.io.output.ownership import one_name
from cellseg3d.io.registry import Opening, open_volume, split_inner, volume_suffix
from cellseg3d.objects.files import block_map
from cellseg3d.objects.label import LabelledObjects, label_objects
from cellseg3d.objects.options import ObjectOptions
from cellseg3d.prediction.expect import KEY as EXPECTED
from cellseg3d.prediction.opening import open_for
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.output.blockwise import (
    Extra,
    beside,
    is_unfinished,
    prob_paths,
    sidecar,
)
from cellseg3d.prediction.record import channels_read, how_read
from cellseg3d.prediction.segment import segment_to_file
from cellseg3d.prediction.tune_objects import decoder_of

logger = logging.getLogger(__name__)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Task:
    """One volume to segment, as the user named it, and the file of its labels."""

    source: str
    labels: Path

    @property
    def objects(self) -> Path:
        """The file of its object ids."""
        return beside(self.labels, "objects")

    @property
    def overlay(self) -> Path:
        """The picture of its labels over the image."""
        return beside(self.labels, "overlay", ".png")


def tasks_of(
    sources: Sequence[str],
    out: Path,
    suffix: str | None = None,
    folders: str = "auto",
    time: int | None = None,
) -> list[Task]:
    """Return one task for each volume that the user named.

    Parameters
    ----------
    sources : sequence of str
        Files, folders of slices, or folders of volumes. ``file.h5::raw`` names a
        dataset inside a file.
    out : Path
        Folder of the results.
    suffix : str, optional
        Suffix of the results' files, which picks their format. When None, each result
        has the suffix of its volume.
    folders : {"auto", "images", "slices"}
        How a folder of images is read: ``"images"`` makes each image a volume of one
        slice, ``"slices"`` stacks all of them into one volume. ``"auto"`` stacks PNG
        files and takes files of any other format one by one.
    time : int, optional
        The only time point that is segmented; the names of the results then have it.

    Raises
    ------
    ConfigError
        If two results would have the same name, the suffix is unknown, or `out` is a
        file.
    FormatError
        If a source does not exist.
    """
    if out.is_file():
        message = f"{out}: is a file, but results need a folder; give another name"
        raise ConfigError(message)
    if suffix is not None:
        suffix = suffix if suffix.startswith(".") else f".{suffix}"
        if not volume_suffix(f"x{suffix}"):
            message = (
                f"`suffix` {suffix!r} is not a suffix that can be written; try "
                ".ome.zarr or .tif"
            )
            raise ConfigError(message)
    point = "" if time is None else f"_t{time}"
    tasks = [
        Task(source, out / f"{_stem(source)}{point}_labels{_suffix(source, suffix)}")
        for given in sources
        for source in _volumes(given, folders)
    ]
    seen: dict[str, str] = {}
    for task in tasks:
        name = one_name(str(sidecar(task.labels)))
        if name in seen:
            message = (
                f"{task.source} and {seen[name]} would both be written to "
                f"{task.labels}; rename one of them, or predict them into two folders"
            )
            raise ConfigError(message)
        seen[name] = task.source
    return tasks


def files_of(
    task: Task,
    classes: Sequence[str],
    options: SegmentOptions,
    *,
    objects: bool,
) -> list[Path]:
    """Return all files that a task writes; the labels come first."""
    files = [task.labels, sidecar(task.labels)]
    if options.probs:
        files += prob_paths(task.labels, classes)
    if options.uncertainty:
        files.append(beside(task.labels, "uncertainty"))
    files += [task.objects] if objects else []
    return [*files, task.overlay] if options.overlay else files


def is_complete(
    task: Task,
    files: Sequence[Path],
    models: Sequence[TrainedModel],
    opening: Opening | None = None,
) -> bool:
    """Return whether a task was finished before: same input, channels and models.

    Parameters
    ----------
    task : Task
    files : sequence of Path
        All files that the task writes, except the objects, which can be made from the
        others.
    models : sequence of TrainedModel
    opening : mapping, optional
        How to read the volume: keyword arguments of `cellseg3d.open_volume`.

    Raises
    ------
    InputError
        If some of the files are missing, or were made from another input, from other
        channels of it or by other models. They may be the user's own, so they are
        never replaced silently.
    """
    if is_unfinished(task.labels) or not task.labels.exists():
        return False
    missing = [path.name for path in files if not path.exists()]
    way_out = "pass `overwrite` without `resume` to segment the volume again"
    if missing:
        message = (
            f"{task.labels}: exists, but {', '.join(missing)} is missing beside it; "
            f"{way_out}"
        )
        raise InputError(message)
    known = read_record(task.labels).get("segmentation", {})
    if known.get("input") not in (None, fingerprint(task.source)):
        message = (
            f"{task.source}: was changed after {task.labels} was made from it; "
            f"{way_out}"
        )
        raise InputError(message)
    hashes = [model.get("sha256") for model in known.get("models", [])]
    if hashes and hashes != [model.sha256 for model in models]:
        message = (
            f"{task.labels}: was made with other weights than those of "
            f"{', '.join(model.name for model in models)}; {way_out}"
        )
        raise InputError(message)
    if "channels" in known or "read_as" in known:
        _refuse_read_otherwise(task, models, known, opening or {}, way_out)
    return True


def _refuse_read_otherwise(
    task: Task,
    models: Sequence[TrainedModel],
    known: Mapping[str, Any],
    opening: Opening,
    way_out: str,
) -> None:
    """Refuse labels of a volume that was read in another way than is asked for now.

    Raises
    ------
    InputError
        If the channels, the word for the axes or the voxel edges differ.
    """
    volume = open_for(task.source, models, **opening)
    before, now = known.get("channels"), channels_read(volume)
    if before and now and now != before:
        raise InputError(
            f"{task.labels}: was made from {', '.join(before)} of {task.source}, "
            f"not from {', '.join(now)}; {way_out}"
        )
    if "read_as" not in known:
        return
    asked = how_read(told_spacing(volume, models))
    for key, what in (("read_as", "axes read as"), ("spacing_um", "voxel edges of")):
        if known.get(key) != asked[key]:
            raise InputError(
                f"{task.labels}: was made from {task.source} with {what} "
                f"{_in_words(known.get(key))}, not {_in_words(asked[key])}; {way_out}"
            )


def _in_words(value: object) -> str:
    if isinstance(value, list):
        return " x ".join(f"{edge:g}" for edge in value) + " um"
    return "the file says" if value is None else str(value)


def read_record(labels: Path) -> dict[str, Any]:
    """Return the record beside a label file; an empty one if it cannot be read."""
    try:
        found = json.loads(sidecar(labels).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def segment_task(
    task: Task,
    models: Sequence[TrainedModel],
    options: SegmentOptions,
    opening: Opening | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    find_objects: Callable[[Task], None] | None = None,
) -> dict[str, Any]:
    """Segment one volume into its file; return what was done and how long it took.

    Parameters
    ----------
    task, models, options, overwrite, progress
        As for `segment.segment_to_file`.
    opening : mapping, optional
        How to read the volume: keyword arguments of `cellseg3d.open_volume`.
    find_objects : callable, optional
        Writes the objects of a task whose labels and probabilities are finished but
        still lie in the work folder. All files are moved to their names afterwards,
        together.

    Returns
    -------
    dict
        Volume, labels, shape and spacing (um), voxels, seconds, voxels per second,
        how each network ran, and what Dice is expected of the labels.

    Raises
    ------
    CellSegError
        If something is wrong with the volume, the models or the machine.
    """
    opened = open_for(task.source, models, **(opening or {}))
    volume = with_told_spacing(opened, models)
    begun = time.perf_counter()
    extras = []
    if find_objects is not None:
        find = find_objects
        extras.append(Extra(task.objects, lambda done: find(Task(task.source, done))))
    if options.overlay:

        def draw(done: Path) -> None:
            write_overlay(volume, Task(task.source, done), ids=find_objects is not None)

        extras.append(Extra(task.overlay, draw))
    segment_to_file(
        volume,
        models,
        task.labels,
        options,
        overwrite=overwrite,
        progress=progress,
        extras=extras,
    )
    # Prepared networks refer to themselves, so those of many volumes would pile up.
    gc.collect()
    elapsed = time.perf_counter() - begun
    voxels = Roi.whole(volume.shape).size
    record = read_record(task.labels)["segmentation"]
    sources = record["sources"]
    return {
        "volume": task.source,
        "labels": str(task.labels),
        "shape": list(volume.shape),
        "spacing_um": None if volume.spacing is None else list(volume.spacing.zyx),
        "voxels": voxels,
        "elapsed_s": elapsed,
        "voxels_per_s": voxels / max(elapsed, 1e-9),
        "picked": "{backend} on {device} in {precision}".format(**sources[0]),
        "sources": sources,
        **({EXPECTED: record[EXPECTED]} if EXPECTED in record else {}),
    }


def write_overlay(volume: Volume, task: Task, *, ids: bool) -> None:
    """Draw a task's objects or labels over its volume and write NAME_overlay.png.

    Parameters
    ----------
    volume : Volume
        The volume that was segmented; of several channels the first is drawn.
    task : Task
        Its labels, and its objects if `ids`, are finished.
    ids : bool
        Whether to draw the objects.
    """
    labels = open_volume(task.objects if ids else task.labels)
    picture = overlay_picture(volume.channel(0), labels, ids=ids)
    atomic_write(task.overlay, lambda new: picture.save(new, format="PNG"))


def with_told_spacing(volume: Volume, models: Sequence[TrainedModel]) -> Volume:
    """Return a volume with the voxel edges that the user gave for the training.

    This is done where neither its own file nor those of the training volumes say any;
    the log tells it.
    """
    known = told_spacing(volume, models)
    if known is not volume:
        logger.warning(
            "%s: does not say how large its voxels are, so they are taken as those of "
            "the training, %s; give `spacing_um` if they are not",
            volume.name,
            known.spacing,
        )
    return known


def told_spacing(volume: Volume, models: Sequence[TrainedModel]) -> Volume:
    """Return what `with_told_spacing` does, without a word."""
    told = [model for model in models if model.spacing_told and model.spacing_um]
    if volume.spacing is not None or not told:
        return volume
    return replace(volume, spacing=told[0].spacing_um)


def objects_task(
    task: Task,
    model: TrainedModel,
    options: ObjectOptions | None = None,
    dask: str | None = None,
    *,
    least: float | None = None,
) -> LabelledObjects:
    """Find the objects in a task's probabilities and write them as NAME_objects.

    Parameters
    ----------
    task : Task
        A task that is segmented and has its probabilities beside its labels.
    model : TrainedModel
        The model that segmented it.
    options : ObjectOptions, optional
        How objects are found. When None, `tune_objects.decoder_of` decides.
    least : float, optional
        Smallest volume of an object, in um^3 (in voxels if the spacing is unknown).
        When None, that of the decoder is taken.
    dask : str, optional
        As for `dask_client.open_client`.

    Raises
    ------
    EnvironmentFault
        If the extra ``objects`` is not installed.
    """
    names = tuple(model.classes)
    probs = [open_volume(path) for path in prob_paths(task.labels, names)]
    chosen = options or decoder_of(model, probs[0].spacing)
    if least is not None:
        chosen = replace(chosen, min_volume_um3=least)
    with ExitStack() as stack:
        return label_objects(
            probs,
            None,
            chosen,
            probs=True,
            out=task.objects,
            map_blocks=block_map(stack, dask=dask),
        )


def parse_bytes(text: str, option: str) -> int:
    """Return the number of bytes that a text such as ``4G`` or ``1.5 GiB`` means.

    Parameters
    ----------
    text : str
    option : str
        What the text was given for; an error names it.

    Raises
    ------
    ConfigError
        If the text is not a size above 0.
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    if match is None or number <= 0:
        raise ConfigError(f"{option} is {text!r}; expected a size such as 4G or 512M")
    return int(number * _UNITS[match[2].upper()])


def write_report(path: Path, reports: Sequence[dict[str, Any]]) -> None:
    """Write the reports of `segment_task` to one JSON file."""
    text = json.dumps({"volumes": list(reports)}, indent=2) + "\n"
    write_text(path, text)


def folder_of(given: str, folders: str = "auto") -> FolderContent | None:
    """Return the content of a folder; None for a file, or a folder that is a volume.

    Raises
    ------
    ConfigError
        If `folders` is not one of `cellseg3d.io.listing.FOLDERS`.
    FormatError
        If the folder holds no volume, or slices that do not fit together.
    """
    path, inner = split_inner(given, None)
    if inner is not None or not path.is_dir() or volume_suffix(path.name):
        if folders not in FOLDERS:
            content_of(path, folders)  # This refuses an unknown `folders`.
        return None
    return content_of(path, folders)


def _volumes(given: str, folders: str) -> list[str]:
    """Return the volumes of a folder, or the one volume that is named."""
    content = folder_of(given, folders)
    if content is None or content.one_volume or not content.to_segment:
        return [given]
    return [str(each) for each in content.to_segment]


def _stem(source: str) -> str:
    path, inner = split_inner(source, None)
    name = path.name[: len(path.name) - len(volume_suffix(path.name))]
    return name if inner is None else f"{name}_{inner.replace('/', '_')}"


def _suffix(source: str, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    suffix = volume_suffix(source)
    # What only other programs write, and files of an unknown suffix, become TIFF.
    return ".tif" if suffix == ".lsm" or (not suffix and _is_file(source)) else suffix


def _is_file(source: str) -> bool:
    return split_inner(source, None)[0].is_file()
