"""Make a run folder: a bundle whose configs are resolved for one data set."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import Config, check_read, prune, read_config
from cellseg3d.bundle.metadata import build_metadata
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.resolve import resolve_config
from cellseg3d.core.atomic import MARK
from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Datalist, split_inner
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.resampling import onto_spacing
from cellseg3d.io.registry import open_volume
from cellseg3d.prediction.lattice import check_axes
from cellseg3d.runs.data_facts import facts_of_datalist
from cellseg3d.runs.patch import choose_axis, choose_patch

# With a time budget the clock ends the training, not the epochs.
_ENDLESS = 100_000
# What a run folder holds before its training config, which is written last.
_FIRST = (
    ".lock",
    "configs/inference.json",
    "configs/evaluate.json",
    "configs/metadata.json",
)
# What is measured on a bundle's own weights, in its window.
_MEASURED = ("halo", "halo_error", "empty_below")
# What training, inference and evaluation must agree on.
SHARED = ("facts", "spec", "window", "intensity", "network_def")


@dataclass(frozen=True)
class TrainOptions:
    """What a user says about a training; None leaves the bundle's word.

    Parameters
    ----------
    fold : int or str, optional
        Number of the fold, or the group that validates.
    epochs : int, optional
    minutes : float, optional
        Time budget, validation included.
    seed, workers : int, optional
    device, precision, acceleration : str, optional
    target : str, optional
        What is made of the labels: classes, border-core or affinity.
    pretrained : Path, optional
        Weights to begin with.
    progress : bool
    plan : mapping of str to object
        Keys that `cellseg3d plan` has chosen; the options above win over them.
    settings : mapping of str to object
        Any other key of the config; wins over all.
    calibrate : bool
        Measure halo and threshold of emptiness after the training.
    fit_axes : str, optional
        Axes for 2D and 2.5D networks to sweep, whose weights are fitted on the
        validation volumes after the training.

    Examples
    --------
    >>> from cellseg3d import TrainOptions
    >>> TrainOptions(minutes=30, fold="none").minutes
    30
    """

    fold: int | str | None = None
    epochs: int | None = None
    minutes: float | None = None
    seed: int | None = None
    workers: int | None = None
    device: str | None = None
    precision: str | None = None
    acceleration: str | None = None
    target: str | None = None
    pretrained: Path | None = None
    progress: bool = True
    plan: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    calibrate: bool = True
    fit_axes: str | None = None

    def __post_init__(self) -> None:
        if self.fit_axes is not None:
            object.__setattr__(self, "fit_axes", check_axes(self.fit_axes))

    def overrides(self) -> dict[str, Any]:
        """Return the config keys that these options set."""
        epochs = self.epochs
        if self.minutes is not None and epochs is None:
            epochs = _ENDLESS
        pretrained = None if self.pretrained is None else str(self.pretrained.resolve())
        named: dict[str, Any] = {
            "fold": self.fold,
            "max_minutes": self.minutes,
            "epochs": epochs,
            "seed": self.seed,
            "train::dataloader::workers": self.workers,
            "device::name": self.device,
            "precision": self.precision,
            "acceleration": self.acceleration,
            "target::kind": self.target,
            "pretrained": pretrained,
        }
        chosen = {key: value for key, value in named.items() if value is not None}
        if isinstance(self.fold, str):
            is_number = self.fold.isdigit()
            chosen["fold"] = int(self.fold) if is_number else self.fold
            if self.fold == "none":
                chosen["fold"] = None
        return {**self.plan, **chosen, "progress": self.progress, **self.settings}


def create_run(
    bundle: Path, data: str | Path, out: Path, options: TrainOptions
) -> Path:
    """Write a run folder and return its training config.

    Parameters
    ----------
    bundle : Path
        The bundle to train.
    data : str or Path
        A datalist, or a folder of volumes and labels.
    out : Path
        The run folder; empty, or not there yet.
    options : TrainOptions

    Raises
    ------
    EnvironmentFault
        If the folder holds something.
    ConfigError
        If an option names a key that nothing reads.
    InputError
        If the data set cannot be read.
    """
    check_free(out)
    files, path = configs_of(bundle), bundle / "configs" / "train.json"
    overrides = options.overrides()
    # Which classes and which spacing the data have depends on what is asked of them.
    asked = resolve_config(path, overrides)
    datalist = load_datalist(data).aimed_at(asked.get("target"))
    facts = facts_of_datalist(datalist, _asked_spacing(asked))
    chosen = _for_data(datalist, facts, files["train"], overrides)
    train = prune(resolve_config(path, {**chosen, **overrides}))
    check_read(train, str(path))
    write_bundle(out, bundle, files, train, facts)
    return out / "configs" / "train.json"


def reopen_run(out: Path, options: TrainOptions) -> Path:
    """Return the training config of a run folder, set to go on.

    Options given anew replace those of the run.

    Raises
    ------
    ConfigError
        If the folder is no run.
    """
    path = out / "configs" / "train.json"
    if not path.is_file():
        message = f"{out}: holds no configs/train.json, so there is nothing to resume"
        raise ConfigError(message)
    before = read_config(path)
    config = resolve_config(path, {**options.overrides(), "resume": True})
    if _asked_spacing(config) != _asked_spacing(before):
        message = (
            f"{path}: data::spacing_um is {_asked_spacing(before)}, and cannot become "
            f"{_asked_spacing(config)} in the middle of a training; begin another run"
        )
        raise ConfigError(message)
    write_config(path, config)
    return path


def check_free(out: Path) -> None:
    """Refuse a folder that holds more than a run that never took a step.

    Raises
    ------
    EnvironmentFault
        If it does.
    """
    if out.exists() and not _free(out):
        message = f"{out}: is not empty; go on with --resume, or choose another folder"
        raise EnvironmentFault(message)


def _asked_spacing(config: Config) -> Any:  # noqa: ANN401
    """Return what a training config resamples its volumes to; None when as they are."""
    data = config.get("data")
    return data.get("spacing_um") if isinstance(data, Mapping) else None


def _free(out: Path) -> bool:
    """Whether a folder is empty, or holds a run that never took a step."""
    if not out.is_dir():
        return False
    begun = any(out.glob("checkpoints/*")) or any(out.glob("models/*"))
    if (out / "configs" / "train.json").is_file():
        return not begun
    # Killed before its training config was there: all files are of names of ours.
    files = [path for path in out.rglob("*") if not path.is_dir()]
    inside = {path.relative_to(out).as_posix() for path in files}
    return all(name in _FIRST or f"/.{MARK}" in f"/{name}" for name in inside)


def configs_of(bundle: Path) -> dict[str, Config]:
    """Return the configs of a bundle by file name: train, inference, and so on."""
    names = ("train", "inference", "evaluate", "metadata")
    return {name: read_config(bundle / "configs" / f"{name}.json") for name in names}


def _for_data(
    datalist: Datalist, facts: ModelFacts, train: Config, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keys of a training config that follow from the data."""
    spec, shapes = InputSpec.parse(train["spec"]), _shapes(datalist, facts)
    cut: dict[str, Any] = {}
    if spec.spatial_dims == 2 and "axis" in train["spec"]:
        best, _ = choose_axis(shapes, facts.spacing_um)
        cut = {"spec::axis": overrides.get("spec::axis", best)}
        spec = replace(spec, axis=cut["spec::axis"])
    patch = choose_patch(spec, shapes, facts.spacing_um)
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
    """Return the shapes of the labelled training volumes, as training sees them."""
    target = None if facts.resampled_um is None else Spacing.of(facts.resampled_um)
    shapes: list[Sequence[int]] = []
    for case in datalist.cases:
        if case.label is not None and case.split in (None, "training"):
            file, inner = split_inner(case.image)
            volume = open_volume(file, inner=inner, spacing=case.spacing)
            seen = volume if target is None else onto_spacing(volume, target)
            shapes.append(seen.shape)
    if not shapes:
        message = f"{datalist.where}: holds no labelled case to train on"
        raise ConfigError(message)
    return shapes


def write_bundle(
    out: Path, bundle: Path, files: dict[str, Config], train: Config, facts: ModelFacts
) -> None:
    """Write a bundle's files from a resolved training config.

    Parameters
    ----------
    out : Path
        The new bundle or run.
    bundle : Path
        Whose licence and logging it takes over.
    files : dict of str to dict
        The configs of `bundle`, by file name.
    train : dict
        The new training config; inference and evaluation share its blocks.
    facts : ModelFacts
    """
    metadata = files["metadata"]
    title = str(metadata["description"]).split(";")[0]
    name = str(metadata["name"])
    shared = {key: train[key] for key in SHARED}
    written = {
        "inference": prune({**files["inference"], **shared}),
        "evaluate": prune(
            {
                **files["evaluate"],
                **shared,
                "dataset_dir": train["dataset_dir"],
                "fold": train["fold"],
                **{key: train[key] for key in ("target",) if key in train},
            }
        ),
        "metadata": build_metadata(metadata, train["spec"], facts, name, title),
        "train": train,
    }
    (out / "configs").mkdir(parents=True, exist_ok=True)
    for file, config in written.items():
        write_config(out / "configs" / f"{file}.json", config)
    for extra in ("configs/logging.conf", "LICENSE", "docs/README.md"):
        if (bundle / extra).is_file():
            (out / extra).parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle / extra, out / extra)
    (out / "models").mkdir(exist_ok=True)
