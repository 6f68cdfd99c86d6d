"""Make a run folder: a copy of a bundle, with the configs adapted to a data set."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import (
    Config,
    check_read,
    compose,
    override,
    prune,
    read_config,
)
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.resolve import resolve_config
from cellseg3d.core.atomic import MARK
from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import INNER, Datalist, split_inner
from cellseg3d.datasets.datalist import load_datalist, write_datalist
from cellseg3d.datasets.resampling import onto_spacing
from cellseg3d.runs.bundle_files import write_bundle
from cellseg3d.runs.data_facts import facts_of_datalist
from cellseg3d.runs.options import TrainOptions
from cellseg3d.runs.patch import choose_axis, choose_patch
from cellseg3d.runs.record import accept_data

logger = logging.getLogger(__name__)
# Files that are written before the training config, which is the last one.
_FIRST = (
    ".lock",
    "datalist.json",
    "configs/inference.json",
    "configs/evaluate.json",
    "configs/metadata.json",
)
# Keys of `window` that were measured with the bundle's weights; new weights need new
# values.
_MEASURED = ("halo", "halo_error", "empty_below")


def create_run(
    bundle: Path, data: str | Path | Datalist, out: Path, options: TrainOptions
) -> Path:
    """Write a run folder and return its training config.

    If the data set is a `Datalist` object, it is written there as ``datalist.json``.

    Parameters
    ----------
    bundle : Path
        The bundle to train.
    data : str, Path or Datalist
        A datalist, or a folder of volumes and labels.
    out : Path
        The run folder; it must be empty or not exist yet.
    options : TrainOptions
        What to change in the bundle's configs.

    Raises
    ------
    EnvironmentFault
        If the folder is not empty.
    ConfigError
        If an option names a key that nothing reads.
    InputError
        If the data set cannot be read.
    """
    check_free(out)
    files, path = configs_of(bundle), bundle / "configs" / "train.json"
    overrides = options.overrides()
    # The target and the asked spacing decide which classes and spacing the data have.
    asked = resolve_config(path, overrides)
    if isinstance(data, Datalist):
        out.mkdir(parents=True, exist_ok=True)
        data = write_told(data, out)
    datalist = load_datalist(data).aimed_at(asked.get("target"))
    facts = facts_of_datalist(datalist, _asked_spacing(asked))
    chosen = _for_data(datalist, facts, files["train"], overrides)
    train = prune(override(files["train"], {**chosen, **overrides}, path))
    check_read(train, str(path))
    title = _title(str(files["metadata"]["description"]), facts)
    files["metadata"] = {**files["metadata"], "description": title}
    write_bundle(out, bundle, files, train, facts)
    return out / "configs" / "train.json"


def write_told(datalist: Datalist, out: Path) -> Path:
    """Write a data set with absolute paths into a run folder and return its path."""
    cases = tuple(
        replace(case, image=_absolute(case.image), label=_absolute(case.label))
        for case in datalist.cases
    )
    path = out / "datalist.json"
    write_datalist(replace(datalist, cases=cases), path)
    return path


def _absolute(location: Any) -> Any:  # noqa: ANN401 - a str, or None
    """Return an absolute path, with the inner path after ``::``; None stays None."""
    if location is None:
        return None
    file, inner = split_inner(location)
    whole = str(file.absolute())
    return whole if inner is None else f"{whole}{INNER}{inner}"


def reopen_run(
    out: Path, options: TrainOptions, data: str | Path | None = None
) -> Path:
    """Set the training config of a run folder to resume, and return its path.

    Options that are given replace those of the run.

    Parameters
    ----------
    out : Path
        The run folder.
    options : TrainOptions
        What to change in the run's config.
    data : str or Path, optional
        A data set to continue with, which may differ from that of the run. Without it,
        the training refuses images and labels that have changed.

    Raises
    ------
    ConfigError
        If the folder is not a run folder, or if the options change the spacing that
        volumes are resampled to.
    """
    path = out / "configs" / "train.json"
    if not path.is_file():
        message = (
            f"{out}: holds no configs/train.json, so there is nothing to resume; "
            "start a new training"
        )
        raise ConfigError(message)
    told = (options.spacing_um, options.annotated_slices)
    if any(each is not None for each in (*told, options.channel, options.channels)):
        message = (
            f"{path}: spacing, channels and annotated slices cannot change in the "
            "middle of a training; leave them out, or start a new one"
        )
        raise ConfigError(message)
    before = read_config(path)
    chosen = {**options.overrides(), "resume": True}
    if data is not None:
        chosen["dataset_dir"] = _same_classes(data, before, path)
        accept_data(out)
    config = resolve_config(path, chosen)
    if _asked_spacing(config) != _asked_spacing(before):
        message = (
            f"{path}: data::spacing_um is {_asked_spacing(before)} and cannot become "
            f"{_asked_spacing(config)} in the middle of a training; start a new one"
        )
        raise ConfigError(message)
    write_config(path, config)
    return path


def _same_classes(data: str | Path, before: Config, path: Path) -> str:
    """Return the path of a data set, or refuse it if its classes differ from the run's.

    Raises
    ------
    ConfigError
        If its classes are not those that the network learns.
    """
    datalist = load_datalist(data).aimed_at(before.get("target"))
    learned = list(before.get("facts", {}).get("classes", datalist.classes))
    if list(datalist.classes) != learned:
        message = (
            f"{datalist.where}: has the classes {list(datalist.classes)}, but the run "
            f"{path.parent.parent} learns {learned}; start a new training"
        )
        raise ConfigError(message)
    logger.warning("the training continues with the data in %s", datalist.where)
    return str(Path(datalist.path or data).resolve())


def check_free(out: Path) -> None:
    """Refuse a folder that is in use; an empty one and an unstarted run are allowed.

    Raises
    ------
    EnvironmentFault
        If the folder holds other files, or a run with a checkpoint or weights.
    """
    if out.exists() and not _free(out):
        message = f"{out}: is not empty; go on with `resume`, or choose another folder"
        raise EnvironmentFault(message)


def _asked_spacing(config: Config) -> Any:  # noqa: ANN401
    """Return the spacing that a training config resamples its volumes to, or None."""
    data = config.get("data")
    return data.get("spacing_um") if isinstance(data, Mapping) else None


def _free(out: Path) -> bool:
    """Return whether a folder is empty or a run without checkpoint and weights."""
    if not out.is_dir():
        return False
    begun = any(out.glob("checkpoints/*")) or any(out.glob("models/*"))
    if (out / "configs" / "train.json").is_file():
        return not begun
    # A run that was killed before its training config was written holds only these.
    files = [path for path in out.rglob("*") if not path.is_dir()]
    inside = {path.relative_to(out).as_posix() for path in files}
    return all(name in _FIRST or f"/.{MARK}" in f"/{name}" for name in inside)


def configs_of(bundle: Path) -> dict[str, Config]:
    """Return the four configs of a bundle by name: train, inference, and so on."""
    names = ("train", "inference", "evaluate", "metadata")
    return {name: compose([bundle / "configs" / f"{name}.json"]) for name in names}


def _for_data(
    datalist: Datalist, facts: ModelFacts, train: Config, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keys of a training config that are chosen from the data."""
    spec, shapes = InputSpec.parse(train["spec"]), _shapes(datalist, facts)
    cut: dict[str, Any] = {}
    if spec.spatial_dims == 2 and "axis" in train["spec"]:
        best, _ = choose_axis(shapes, facts.spacing_um)
        cut = {"spec::axis": overrides.get("spec::axis", best)}
        spec = replace(spec, axis=cut["spec::axis"])
    patch = choose_patch(spec, shapes, facts.spacing_um)
    channels = max(1, len(facts.channels))
    if channels != spec.image_channels:
        cut = {"spec": {**train["spec"], "image_channels": channels}, **cut}
    window = train.get("window", {})
    return {
        **cut,
        "window": {k: v for k, v in window.items() if k not in _MEASURED},
        "dataset_dir": str(Path(datalist.path or ".").resolve()),
        "facts": {
            "_target_": "cellseg3d.bundle.model_facts.ModelFacts",
            **facts.as_dict(),
        },
        "spec::patch_shape": list(patch),
    }


def _shapes(datalist: Datalist, facts: ModelFacts) -> list[Sequence[int]]:
    """Return the shapes of the labelled training volumes, after resampling if asked."""
    target = None if facts.resampled_um is None else Spacing.of(facts.resampled_um)
    shapes: list[Sequence[int]] = []
    for case in datalist.cases:
        if case.label is not None and case.split in (None, "training"):
            volume = case.open_image()
            seen = volume if target is None else onto_spacing(volume, target)
            shapes.append(seen.shape)
    if not shapes:
        message = f"{datalist.where}: has no labelled case to train on; add labels"
        raise ConfigError(message)
    return shapes


def _title(description: str, facts: ModelFacts) -> str:
    """Return what a run segments with which network, such as "Nucleus, 3D U-Net".

    A bundle's description also names the kind of images that the bundle is for, which
    may not be those of the run.
    """
    title = description.partition(";")[0]
    network = title.partition(", ")[2] or title
    *most, last = facts.classes[1:]
    named = f"{', '.join(most)} and {last}" if most else last
    return f"{named[:1].upper()}{named[1:]}, {network}"
