"""A crop of a volume and the networks on it, through which gradients can flow.

The crop is read as prediction reads its windows: scaled, mirrored where the volume is
small, with border voxels repeated, and as stacks of slices for 2.5D networks. The
networks are those of the pipeline, without acceleration, in float32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.explanation.subject import Subject
from cellseg3d.models.prepared import PlainNetwork, stack_slices
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.sources import Source

# The largest crop of a 3D network, whose gradients take some kB a voxel, and of slices.
MOST_3D: Zyx = (64, 80, 80)
MOST_2D: Zyx = (9, 320, 320)
# Slices that run together.
SLICES = 4


@dataclass(frozen=True)
class Crop:
    """The crop around an object.

    Parameters
    ----------
    pipeline : Pipeline
        Sources with plain networks on the whole volume.
    box : Roi
        The crop, in voxels of the volume; it may reach past the volume's border.
    inside : tensor of bool, shape (z, y, x)
        The voxels of the object in the crop.
    image : tensor of float32, shape (C, z, y, x)
        Scaled intensities, as the networks see them.
    """

    pipeline: Pipeline
    box: Roi
    inside: Tensor
    image: Tensor

    def logits(self, image_czyx: Tensor, source: Source) -> Tensor:
        """Return the logits (K, z, y, x) of one network for an image like the crop."""
        network = module_of(source)
        axis = source.lattice.axis
        if axis is None:
            return _tensor(network(image_czyx[None]))[0]
        across = axis_index(axis)
        context = source.use.spec.context
        slices = image_czyx.movedim(across + 1, 1)
        first, last = slices[:, :1], slices[:, -1:]
        padded = torch.cat([*[first] * context, slices, *[last] * context], dim=1)
        stacks = stack_slices(padded, context)
        parts = [
            _tensor(network(stacks[n : n + SLICES]))
            for n in range(0, len(stacks), SLICES)
        ]
        return torch.cat(parts).movedim(0, 1).movedim(1, across + 1)

    def score(self, image_czyx: Tensor, value: int) -> Tensor:
        """Return the object's score for a class: its mean log odds, in nats.

        The odds of a class are its probability divided by that of all others. The mean
        is taken over the object's voxels and over the sources, which count as in the
        prediction.

        Parameters
        ----------
        image_czyx : tensor of float32, shape (C, z, y, x)
            An image like the crop.
        value : int
            The class.
        """
        rows = self.pipeline.fusion.rows(
            len(self.pipeline.sources), self.pipeline.classes
        )[:, value]
        total = torch.zeros(())
        for weight, source in zip(rows, self.pipeline.sources, strict=True):
            logits = self.logits(image_czyx, source)[:, self.inside]
            others = [k for k in range(len(logits)) if k != value]
            odds = logits[value] - logits[others].logsumexp(0)
            total = total + weight * odds.mean()
        return total

    def probs(self, image_czyx: Tensor) -> Tensor:
        """Return the mean class probabilities (K, z, y, x) of all sources."""
        with torch.no_grad():
            every = [
                self.logits(image_czyx, source).softmax(0)
                for source in self.pipeline.sources
            ]
        return torch.stack(every).mean(0)


def crop_around(pipeline: Pipeline, subject: Subject, most: Zyx) -> Crop:
    """Return the crop around an object: with its halo, as far as `most` allows.

    Parameters
    ----------
    pipeline : Pipeline
        A pipeline with acceleration off.
    subject : Subject
    most : tuple of int
        The largest crop (z, y, x).
    """
    steps = strides_of(pipeline.sources)
    halos = [source.lattice.halo for source in pipeline.sources]
    start, sides = [], []
    for axis in range(3):
        length = subject.box.shape[axis]
        wanted = length + 2 * max(halo[axis] for halo in halos)
        whole = max(source.seen.shape[axis] for source in pipeline.sources)
        side = min(wanted, max(most[axis], length), whole)
        side = math.ceil(side / steps[axis]) * steps[axis]
        middle = (subject.box.start[axis] + subject.box.stop[axis]) // 2
        first = middle - side // 2
        own = pipeline.shape[axis]
        # A crop that is smaller than the volume does not reach past its border.
        first = max(0, min(first, own - side)) if side <= own else -((side - own) // 2)
        start.append(first)
        sides.append(side)
    box = Roi.at(zyx(start), zyx(sides))
    source = pipeline.sources[0]
    seen = source.seen
    image = torch.from_numpy(seen.read(box.shift(seen.margin))).float().contiguous()
    inside = torch.zeros(box.shape, dtype=torch.bool)
    inside[subject.box.within(box).slices] = torch.from_numpy(subject.mask)
    return Crop(pipeline, box, inside, image)


def strides_of(sources: Sequence[Source]) -> Zyx:
    """Return of what number each side (z, y, x) of a crop must be a multiple."""
    steps = [1, 1, 1]
    for source in sources:
        own = list(source.use.stride)
        if source.lattice.axis is not None:
            own.insert(axis_index(source.lattice.axis), 1)
        steps = [math.lcm(a, b) for a, b in zip(steps, own, strict=True)]
    return zyx(steps)


def limits_of(pipeline: Pipeline) -> Zyx:
    """Return the largest crop (z, y, x) of the networks of a pipeline.

    Slices are counted along the axis across which they are cut; with several axes, the
    crop is as deep as it is wide.
    """
    letters = [source.lattice.axis for source in pipeline.sources]
    if any(letter is None for letter in letters):
        return MOST_3D
    axes = {str(letter) for letter in letters}
    if len(axes) > 1:
        return (64, 64, 64)
    deep, wide = MOST_2D[0], MOST_2D[1]
    across = axis_index(axes.pop())
    return zyx([deep if axis == across else wide for axis in range(3)])


def module_of(source: Source) -> nn.Module:
    """Return the network of a source as torch runs it.

    Raises
    ------
    ConfigError
        If it is not a plain network.
    """
    if not isinstance(source.network, PlainNetwork):
        raise ConfigError(f"{source.name}: is accelerated; set `acceleration` to off")
    return source.network.network


def _tensor(answer: Tensor | Sequence[Tensor]) -> Tensor:
    return answer if isinstance(answer, Tensor) else answer[0]
