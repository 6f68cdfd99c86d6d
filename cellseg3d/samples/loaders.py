"""PyTorch datasets: random samples for training, whole volumes for validation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms.compose import Compose
from monai.transforms.transform import Randomizable
from numpy.typing import NDArray
from torch.utils.data import Dataset

from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.words import counted
from cellseg3d.datasets.targets import LabelTarget
from cellseg3d.datasets.volumes import LoadedCase
from cellseg3d.samples.crops import crop_image, crop_label, crop_start
from cellseg3d.samples.samplers import SiteSampler, sample_random

Item = dict[str, Any]
Transform = Callable[[Item], Item]


class SampleDataset(Dataset[Item]):
    """Random slices, stacks or patches, cut from the volumes of a fold.

    A sample depends only on (seed, epoch, index), and not on workers, processes,
    batches or earlier samples. A training can therefore be resumed from the number of
    the epoch and the number of samples used.

    Parameters
    ----------
    cases : sequence of LoadedCase
        Labelled volumes (`cellseg3d.datasets.volumes`).
    spec : InputSpec or dict
        The network's input: dimensions, axis, context and patch shape.
    samples : int
        Number of samples in an epoch, of all processes together.
    transform : callable, optional
        Function that takes and returns a sample. MONAI's ``Compose`` and
        ``Randomizable`` are seeded for each sample.
    seed : int
        Seed of every random number.
    foreground : float
        Probability that a sample is centred on a voxel of a random foreground class;
        else it is centred on any annotated voxel.
    axes : sequence of {"z", "y", "x"}, optional
        Axes to cut 2D and 2.5D samples across, one drawn for each sample; the axis of
        `spec` when None.
    class_weights : mapping of int to float, optional
        How often each foreground class is drawn relative to the others; 1 unless named.
    rank, world_size : int, optional
        Number of this process and of all processes: index i is sample
        ``i * world_size + rank``. When None, ``torch.distributed`` gives them if it is
        in use, else there is one process.
    data : object, optional
        Not used here: the place in a config where MONAI Label puts its list of files,
        from which `cellseg3d.samples.inputs.ready_dataset` makes the cases.

    Notes
    -----
    An item is a dict with these values:

    - ``"image"``: float32, shape (C * (2k + 1), h, w) or (C, z, y, x), scaled
      intensities; the slices of the first channel come first;
    - ``"channels"``: the number C of the image's channels, if there are several;
    - ``"label"``: float32, shape (1, h, w) or (1, z, y, x), class indices, 255 where
      not annotated;
    - ``"case"``: the name of the case;
    - ``"position"``: int64, the first voxel (z, y, x) of the crop or centre slice;
    - ``"axis"``: 0, 1 or 2;
    - ``"annotated"``: bool, shape (K,), whether the label annotates each class; only
      if a case of the datalist names such classes.

    Raises
    ------
    ConfigError
        If `samples`, `spec` or `axes` is out of range, or if the target has links
        across the slices of a 2D or 2.5D network.
    LabelError
        If a case has no label, or if no case has an annotated voxel.
    """

    def __init__(  # noqa: PLR0913 - each is a key of a config
        self,
        cases: Sequence[LoadedCase],
        spec: InputSpec | dict[str, Any],
        samples: int = 1000,
        transform: Transform | None = None,
        *,
        seed: int = 0,
        foreground: float = 0.5,
        axes: Sequence[str] | None = None,
        class_weights: Mapping[int, float] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        data: object = None,
    ) -> None:
        del data  # `cases` were read from it
        self.cases = list(cases)
        self.spec = InputSpec.parse(spec)
        self.axes = tuple(axes or (self.spec.axis,))
        for axis in self.axes:
            axis_index(axis)
        self.transform = transform
        self.seed = int(seed)
        self.rank, self.world_size = _shard(rank, world_size)
        if samples < self.world_size:
            message = (
                f"samples is {samples} in an epoch; expected at least "
                f"{self.world_size}, one for each process"
            )
            raise ConfigError(message)
        self.samples = int(samples)
        self.sampler = SiteSampler(
            [_label_of(case) for case in self.cases], foreground, class_weights
        )
        # Shared memory, because workers outlive an epoch and must see the next number.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self._randomizable = _randomizable(transform)
        self._annotated = _annotated(self.cases)
        _refuse_links_across_slices(self.cases, self.spec, self.axes)
        _refuse_other_channels(self.cases, self.spec)

    def __len__(self) -> int:
        return self.samples // self.world_size

    @property
    def epoch(self) -> int:
        """The number of the epoch whose samples are drawn, counted from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose samples are drawn from now on, in every worker."""
        self._epoch[0] = int(epoch)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = index * self.world_size + self.rank
        random = sample_random(self.seed, self.epoch, number)
        which, centre = self.sampler.draw(random)
        axis = self.axes[int(random.integers(len(self.axes)))]
        item = self._cut(self.cases[which], centre, axis)
        if self._annotated:
            item["annotated"] = self._annotated[which]
        if self.transform is not None:
            for part in self._randomizable:
                part.set_random_state(seed=int(random.integers(2**32)))
            item = self.transform(item)
        case = self.cases[which]
        return item if case.objects is None else _linked(item, case.target)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))

    def batch(self, indices: Sequence[int]) -> Item:
        """Return several samples as one batch.

        Returns
        -------
        dict
            The values of an item with a leading batch axis; ``"case"`` is a list of
            names.
        """
        first = self[indices[0]]
        shape = (len(indices),)
        batch: Item = {
            key: value.new_empty(shape + tuple(value.shape))
            if isinstance(value, torch.Tensor)
            else []
            for key, value in first.items()
        }
        for row, index in enumerate(indices):
            item = first if row == 0 else self[index]
            for key, value in item.items():
                if isinstance(value, torch.Tensor):
                    batch[key][row] = value
                else:
                    batch[key].append(value)
        return batch

    def _cut(self, case: LoadedCase, centre: Sequence[int], axis: str) -> Item:
        label = _label_of(case) if case.objects is None else case.objects
        scaling = (case.scale, case.offset, case.factor)
        start = list(crop_start(label.shape, centre, self.spec.patch_zyx(axis)))
        if self.spec.spatial_dims == 2:
            start[axis_index(axis)] = int(centre[axis_index(axis)])
        several = {"channels": torch.tensor(case.channels)} if case.channels > 1 else {}
        return {
            **several,
            "image": torch.from_numpy(
                crop_image(case.image, centre, self.spec, axis, scaling)
            ),
            "label": torch.from_numpy(crop_label(label, centre, self.spec, axis)),
            "case": case.name,
            "position": torch.tensor(start),
            "axis": torch.tensor(axis_index(axis)),
        }


class WholeVolumeDataset(Dataset[Item]):
    """Whole scaled volumes, which validation predicts and scores.

    Parameters
    ----------
    cases : sequence of LoadedCase
        The volumes.
    transform : callable, optional
        Function that takes and returns an item.
    rank, world_size : int, optional
        Number of this process and of all processes, as in `SampleDataset`. A process
        gets every `world_size`-th case, and at least one; with more processes than
        cases, some cases are in two processes.
    data : object, optional
        Not used here, as in `SampleDataset`.

    Notes
    -----
    An item is a dict of ``"image"`` (float32, shape (C, Z, Y, X)), ``"label"``
    (float32, shape (1, Z, Y, X); absent if the case has none) and ``"case"``, its name.

    Raises
    ------
    ConfigError
        If one of `cases` is no loaded volume.
    """

    def __init__(
        self,
        cases: Sequence[LoadedCase],
        transform: Transform | None = None,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        data: object = None,
    ) -> None:
        del data  # `cases` were read from it
        rank, world_size = _shard(rank, world_size)
        every = list(cases)
        for number, case in enumerate(every):
            if not isinstance(case, LoadedCase):
                raise ConfigError(
                    f"validate::dataset::cases: item {number} is {case!r:.80}; "
                    "expected loaded volumes, as `$@data.validation` gives them"
                )
        self.cases = every[rank::world_size] or every[rank % max(1, len(every)) :][:1]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Item:
        case = self.cases[index]
        scaled = case.scale.apply(case.image, case.offset, case.factor)
        scaled = scaled if scaled.ndim == 4 else scaled[None]
        item: Item = {"image": torch.from_numpy(scaled), "case": case.name}
        if case.label is not None:
            item["label"] = torch.from_numpy(case.label[None].astype(np.float32))
        return item if self.transform is None else self.transform(item)


def _label_of(case: LoadedCase) -> NDArray[np.uint8]:
    if case.label is None:
        message = f"{case.name}: has no label to train on; add one or remove the case"
        raise LabelError(message)
    return case.label


def _linked(item: Item, target: LabelTarget) -> Item:
    """Return a sample with the links of its augmented object ids as label."""
    classes = target.label_of(np.asarray(item["label"])[0], None)
    return {**item, "label": torch.from_numpy(classes[None].astype(np.float32))}


def _refuse_links_across_slices(
    cases: Sequence[LoadedCase], spec: InputSpec, axes: Sequence[str]
) -> None:
    if spec.spatial_dims == 3:
        return
    for case in cases:
        if case.objects is None:
            continue
        for axis in axes:
            if case.objects.shape[axis_index(axis)] > 1:
                message = (
                    f"{case.name}: a network that sees slices across {axis} cannot "
                    f"learn links along {axis}; use a 3D bundle for target 'affinity'"
                )
                raise ConfigError(message)


def _refuse_other_channels(cases: Sequence[LoadedCase], spec: InputSpec) -> None:
    for case in cases:
        if case.channels != spec.image_channels:
            message = (
                f"{case.name}: its image has {counted(case.channels, 'channel')}, but "
                f"the network takes {spec.image_channels} (spec::image_channels); "
                "train with `cellseg3d train`, which fits the network to the images"
            )
            raise ConfigError(message)


def _annotated(cases: Sequence[LoadedCase]) -> list[torch.Tensor]:
    """Return whether each case annotates each class; empty if all annotate all."""
    known = [len(case.annotated) for case in cases if case.annotated is not None]
    if not known:
        return []
    every = (True,) * known[0]
    return [torch.tensor(case.annotated or every) for case in cases]


def _randomizable(transform: Transform | None) -> list[Randomizable]:
    """Return the parts of a transform that have to be seeded for each sample."""
    parts: Sequence[object] = [transform]
    if isinstance(transform, Compose):
        # Seeding Compose builds a new RandomState for each transform, 0.1 ms each.
        parts = transform.flatten().transforms  # type: ignore[no-untyped-call]
    return [part for part in parts if isinstance(part, Randomizable)]


def _shard(rank: int | None, world_size: int | None) -> tuple[int, int]:
    distributed = torch.distributed
    if rank is None and distributed.is_available() and distributed.is_initialized():
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
    rank, world_size = rank or 0, world_size or 1
    if not 0 <= rank < world_size:
        raise ConfigError(
            f"rank is {rank} of {world_size} processes; expected 0 to {world_size - 1}"
        )
    return rank, world_size
