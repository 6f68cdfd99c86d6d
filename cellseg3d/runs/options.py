"""The options of a training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellseg3d.io.registry import Channels
from cellseg3d.prediction.lattice import check_axes

# With a time budget, the training ends by time and not after a number of epochs.
_ENDLESS = 100_000


@dataclass(frozen=True)
class TrainOptions:
    """Options of a training; with None the value in the bundle's config applies.

    Parameters
    ----------
    fold : int or str, optional
        Number of the fold, or name of the group to validate on; "none" trains on all.
    epochs : int, optional
        Number of epochs.
    minutes : float, optional
        Time budget in minutes, validation included.
    seed : int, optional
        Seed of every random number.
    workers : int, optional
        Number of processes that prepare samples.
    device, precision, acceleration : str, optional
        Keys of the same name in the config.
    target : str, optional
        What the network learns from the labels: classes, border-core, affinity
        or long-affinity.
    pretrained : Path, optional
        File of weights to start from.
    pretrained_if_fits : bool
        Whether to begin with random weights, and say so, if those do not fit the
        network, whose depth depends on the size and the spacing of the volumes.
    progress : bool
        Whether to show progress on the screen.
    plan : mapping of str to object
        Config keys that `cellseg3d plan` has chosen. The options above override them.
    settings : mapping of str to object
        Any other config keys. They override everything else.
    calibrate : bool
        Whether to measure, after the training, the halo and the intensity below which
        windows are empty.
    fit_axes : str, optional
        Axes along which a 2D or 2.5D network predicts. The weight of each axis is
        fitted on the validation volumes after the training.
    spacing_um : three floats (z, y, x), optional
        Voxel edges of all images in um, instead of those in the files and the datalist.
    annotated_slices : str, optional
        Slices that the labels annotate, as for `datasets.told.told_datalist`.
    channel : int or str, optional
        The one channel to learn from, of images with several, by number or name.
    channels : int, "all" or sequence of int or str, optional
        The channels to learn from, as for `cellseg3d.open_volume`.

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
    pretrained_if_fits: bool = False
    progress: bool = True
    plan: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    calibrate: bool = True
    fit_axes: str | None = None
    spacing_um: Sequence[float] | None = None
    annotated_slices: str | None = None
    channel: int | str | None = None
    channels: Channels | None = None

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
