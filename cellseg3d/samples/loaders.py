"""Data sets that a network trains and validates on, drawn from cached volumes."""

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
from cellseg3d.datasets.targets import link_classes
from cellseg3d.datasets.volumes import LoadedCase
from cellseg3d.samples.crops import crop_image, crop_label, crop_start
from cellseg3d.samples.samplers import SiteSampler, sample_random

Item = dict[str, Any]
Transform = Callable[[Item], Item]


class SampleDataset(Dataset[Item]):
    """Slices, stacks or patches by `InputSpec`, from volumes that stay as they are.

    A sample is a function of (seed, epoch, index) alone: not of workers, ranks,
    batches, or what was drawn before. So resuming needs the epoch's number and how
    many samples of it were used, and nothing else.

    Parameters
    ----------
    cases : sequence of LoadedCase
        Labelled volumes (`cellseg3d.datasets.volumes`).
    spec : InputSpec or dict
    samples : int
        Samples in an epoch, of all ranks together.
    transform : callable, optional
        Gets and returns a sample; MONAI's ``Compose`` and ``Randomizable`` are seeded
        for each sample.
    seed : int
    foreground : float
        Probability that a sample is centred on a voxel of a random foreground class.
    axes : sequence of {"z", "y", "x"}, optional
        For 2D and 2.5D: cut slices across a random one of these; the spec's when None.
    class_weights : mapping of int to float, optional
        How often each foreground class is drawn relative to the others.
    rank, world_size : int, optional
        This process' share: index i is sample ``i * world_size + rank``. Those of
        ``torch.distributed`` when None, 0 of 1 without it.

    Notes
    -----
    An item holds ``"image"`` (float32, (2k + 1, h, w) or (1, z, y, x), scaled),
    ``"label"`` (float32, (1, h, w) or (1, z, y, x), class indices and 255 for not
    annotated), ``"case"`` (its name), ``"position"`` (int64, the first voxel (z, y, x)
    of the crop, or of its centre slice) and ``"axis"`` (0, 1 or 2). Where a datalist
    says which classes a label annotates, also ``"annotated"`` (bool, (K,)).

    Raises
    ------
    ConfigError
        If `samples`, `spec` or `axes` make no sense, or slices of volumes are to have
        links to the slice below.
    LabelError
        If a case has no label, or no case has an annotated voxel.
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
    ) -> None:
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
                f"{samples} samples an epoch; expected at least {self.world_size}, one "
                "per process"
            )
            raise ConfigError(message)
        self.samples = int(samples)
        self.sampler = SiteSampler(
            [_label_of(case) for case in self.cases], foreground, class_weights
        )
        # Shared memory, so that workers that live through epochs see it change.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self._randomizable = _randomizable(transform)
        self._annotated = _annotated(self.cases)
        _refuse_links_across_slices(self.cases, self.spec, self.axes)

    def __len__(self) -> int:
        return self.samples // self.world_size

    @property
    def epoch(self) -> int:
        """The epoch that samples are drawn for, from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw the samples of another epoch from now on, in every worker."""
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
        return item if self.cases[which].objects is None else _linked(item)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))

    def batch(self, indices: Sequence[int]) -> Item:
        """Return several samples as one batch, written straight into its tensors.

        Returns
        -------
        dict
            As an item, with a leading batch axis; ``"case"`` is a list of names.
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
        return {
            "image": torch.from_numpy(
                crop_image(case.image, centre, self.spec, axis, scaling)
            ),
            "label": torch.from_numpy(crop_label(label, centre, self.spec, axis)),
            "case": case.name,
            "position": torch.tensor(start),
            "axis": torch.tensor(axis_index(axis)),
        }


class WholeVolumeDataset(Dataset[Item]):
    """Whole volumes, scaled as samples are, for validation through prediction.

    Parameters
    ----------
    cases : sequence of LoadedCase
    transform : callable, optional
    rank, world_size : int, optional
        This process' share: every `world_size`-th case, at least one (a case may then
        be in two shares: tell by ``"case"``). As in `SampleDataset` when None.

    Notes
    -----
    An item holds ``"image"`` and ``"label"`` (float32, shape (1, Z, Y, X); no label
    where the case has none) and ``"case"``.
    """

    def __init__(
        self,
        cases: Sequence[LoadedCase],
        transform: Transform | None = None,
        *,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        rank, world_size = _shard(rank, world_size)
        every = list(cases)
        self.cases = every[rank::world_size] or every[rank % max(1, len(every)) :][:1]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Item:
        case = self.cases[index]
        scaled = case.scale.apply(case.image, case.offset, case.factor)
        item: Item = {"image": torch.from_numpy(scaled[None]), "case": case.name}
        if case.label is not None:
            item["label"] = torch.from_numpy(case.label[None].astype(np.float32))
        return item if self.transform is None else self.transform(item)


def _label_of(case: LoadedCase) -> NDArray[np.uint8]:
    if case.label is None:
        raise LabelError(f"{case.name}: has no label, so nothing can train on it")
    return case.label


def _linked(item: Item) -> Item:
    """Return a sample with the links of its objects, as they lie by now, as label."""
    classes = link_classes(np.asarray(item["label"])[0])
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
                    f"{case.name}: a network that sees slices across {axis} learns no "
                    f"link along {axis}; take a 3D bundle for target 'affinity'"
                )
                raise ConfigError(message)


def _annotated(cases: Sequence[LoadedCase]) -> list[torch.Tensor]:
    """Return which classes each case annotates; empty when all annotate all."""
    known = [len(case.annotated) for case in cases if case.annotated is not None]
    if not known:
        return []
    every = (True,) * known[0]
    return [torch.tensor(case.annotated or every) for case in cases]


def _randomizable(transform: Transform | None) -> list[Randomizable]:
    """Return what has to be seeded for each sample."""
    parts: Sequence[object] = [transform]
    if isinstance(transform, Compose):
        # Seeding Compose itself builds a RandomState per transform, 0.1 ms each.
        parts = transform.flatten().transforms  # type: ignore[no-untyped-call]
    return [part for part in parts if isinstance(part, Randomizable)]


def _shard(rank: int | None, world_size: int | None) -> tuple[int, int]:
    distributed = torch.distributed
    if rank is None and distributed.is_available() and distributed.is_initialized():
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
    rank, world_size = rank or 0, world_size or 1
    if not 0 <= rank < world_size:
        raise ConfigError(
            f"rank {rank} of {world_size}; expected 0 to {world_size - 1}"
        )
    return rank, world_size
