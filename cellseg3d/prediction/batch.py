"""Many volumes, one after another: names of the results, files opened, figures kept."""

import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.errors import ConfigError, FormatError
from cellseg3d.core.roi import Roi
from cellseg3d.datasets.targets import decoder_for
from cellseg3d.io.registry import list_volumes, open_volume, split_inner, volume_suffix
from cellseg3d.objects.files import block_map
from cellseg3d.objects.label import LabelledObjects, label_objects
from cellseg3d.objects.options import ObjectOptions
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.output.blockwise import beside, sidecar
from cellseg3d.prediction.predictor import TrainedModel
from cellseg3d.prediction.segment import segment_to_file
from cellseg3d.prediction.tune_objects import kept_decoder

FOLDERS = ("auto", "images", "slices")
IMAGES = (".png", ".tif", ".tiff")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Task:
    """One volume to segment, as the user named it, and the name of its labels."""

    source: str
    labels: Path

    @property
    def objects(self) -> Path:
        """The name of its object ids."""
        return beside(self.labels, "objects")


def tasks_of(
    sources: Sequence[str],
    out: Path,
    suffix: str | None = None,
    folders: str = "auto",
) -> list[Task]:
    """Return what is to be done, volume by volume.

    Parameters
    ----------
    sources : sequence of str
        Files, folders of slices, or folders of volumes; ``file.h5::raw`` names a
        dataset.
    out : Path
        Folder of the results.
    suffix : str, optional
        Of the results; that of each volume when None.
    folders : {"auto", "images", "slices"}
        What a folder of images is: each a volume of one slice, or all the slices of
        one volume. ``"auto"`` stacks PNG files alone and takes others one by one.

    Raises
    ------
    ConfigError
        If two results would have the same name, or the suffix is unknown.
    """
    if suffix is not None:
        suffix = suffix if suffix.startswith(".") else f".{suffix}"
        if not volume_suffix(f"x{suffix}"):
            raise ConfigError(f"format {suffix!r} is unknown; try .ome.zarr or .tif")
    tasks = [
        Task(source, out / f"{_stem(source)}_labels{_suffix(source, suffix)}")
        for given in sources
        for source in _volumes(given, folders)
    ]
    seen: dict[str, str] = {}
    for task in tasks:
        name = task.labels.name.lower()
        if name in seen:
            message = (
                f"{task.source} and {seen[name]} would both become {task.labels}; "
                "rename one, or give them other folders"
            )
            raise ConfigError(message)
        seen[name] = task.source
    return tasks


def segment_task(
    task: Task,
    models: Sequence[TrainedModel],
    options: SegmentOptions,
    spacing_um: Sequence[float] | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Segment one volume into its file; return what was done and how fast.

    Raises
    ------
    CellSegError
        Whatever is wrong with the volume, the models or the machine.
    """
    volume = open_volume(task.source, spacing=spacing_um)
    begun = time.perf_counter()
    segment_to_file(
        volume, models, task.labels, options, overwrite=overwrite, progress=progress
    )
    elapsed = time.perf_counter() - begun
    voxels = Roi.whole(volume.shape).size
    record = json.loads(sidecar(task.labels).read_text(encoding="utf-8"))
    sources = record["segmentation"]["sources"]
    return {
        "volume": task.source,
        "labels": str(task.labels),
        "shape": list(volume.shape),
        "spacing_um": None if volume.spacing is None else list(volume.spacing.zyx),
        "voxels": voxels,
        "elapsed_s": elapsed,
        "voxels_per_s": voxels / max(elapsed, 1e-9),
        "picked": "{engine} on {device} in {precision}".format(**sources[0]),
        "sources": sources,
    }


def objects_task(
    task: Task,
    model: TrainedModel,
    options: ObjectOptions | None = None,
    dask: str | None = None,
) -> LabelledObjects:
    """Find the objects in a task's probabilities; write them as NAME_objects.

    Parameters
    ----------
    task : Task
        Segmented, with probabilities beside its labels.
    model : TrainedModel
        The bundle it was segmented with.
    options : ObjectOptions, optional
        When None, the decoder that was tuned for the bundle; without one, that which
        fits its classes, with its usual numbers.
    dask : str, optional
        As for `dask_client.open_client`.

    Raises
    ------
    EnvironmentFault
        If the extra ``objects`` is not installed.
    """
    names = tuple(model.classes)
    probs = [open_volume(beside(task.labels, f"prob_{name}")) for name in names]
    usual = ObjectOptions(method=decoder_for(names))
    with ExitStack() as stack:
        return label_objects(
            probs,
            None,
            options or kept_decoder(model) or usual,
            probs=True,
            out=task.objects,
            map_blocks=block_map(stack, dask=dask),
        )


def parse_bytes(text: str, option: str) -> int:
    """Return bytes from words such as ``4G``, ``512M`` or ``1.5 GiB``.

    Raises
    ------
    ConfigError
        If they are not understood.
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    if match is None or number <= 0:
        raise ConfigError(f"{option} {text!r}; expected a size such as 4G or 512M")
    return int(number * _UNITS[match[2].upper()])


def write_report(path: Path, reports: Sequence[dict[str, Any]]) -> None:
    """Write what was done as JSON."""
    text = json.dumps({"volumes": list(reports)}, indent=2) + "\n"

    def write(place: Path) -> None:
        place.write_text(text, encoding="utf-8")

    atomic_write(path, write)


def folder_of_images(given: str) -> int:
    """Return how many PNG or TIFF images a folder holds; 0 if anything else too."""
    path, inner = split_inner(given, None)
    if inner is not None or not path.is_dir() or volume_suffix(path.name):
        return 0
    try:
        found = list_volumes(path)
    except FormatError:
        return 0
    images = all(volume_suffix(each.name) in IMAGES for each in found)
    return len(found) if images else 0


def _volumes(given: str, folders: str) -> list[str]:
    """Return the volumes of a folder, or the one volume that is named."""
    if folders not in FOLDERS:
        expected = ", ".join(FOLDERS)
        raise ConfigError(f"--folders {folders!r}; expected one of {expected}")
    if folders == "slices" and folder_of_images(given):
        return [given]
    path, inner = split_inner(given, None)
    if inner is None and path.is_dir() and not volume_suffix(path.name):
        try:
            found = list_volumes(path)
        except FormatError:
            found = []
        if folders != "images":
            found = [each for each in found if volume_suffix(each.name) != ".png"]
        if found:
            return [str(each) for each in found]
    return [given]


def _stem(source: str) -> str:
    path, inner = split_inner(source, None)
    name = path.name[: len(path.name) - len(volume_suffix(path.name))]
    return name if inner is None else f"{name}_{inner.replace('/', '_')}"


def _suffix(source: str, wanted: str | None) -> str:
    return volume_suffix(source) if wanted is None else wanted
