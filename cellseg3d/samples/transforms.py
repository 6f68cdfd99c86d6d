"""Augmentations that move image and label together."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.transforms.transform import MapTransform, RandomizableTransform
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.mirror import mirrored

Item = dict[Hashable, Any]
Plane = Literal["yx", "random", "all"]


class SampleTransform(RandomizableTransform, MapTransform):
    """Base of the augmentations: a MONAI transform that can be seeded fast.

    It takes the items of `cellseg3d.samples.loaders.SampleDataset`, which have a
    channel axis and two or three spatial axes. Inputs are not changed in place.

    Parameters
    ----------
    keys : sequence of str
        Keys of the tensors to change. ``"image"`` is interpolated; every other key is a
        label, whose values are kept.
    prob : float
        Probability that a sample is changed, in [0, 1].
    """

    def __init__(self, keys: Sequence[str], prob: float) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 <= prob <= 1:
            message = f"{type(self).__name__}: prob is {prob}; expected 0 to 1"
            raise ConfigError(message)
        self.R = np.random.RandomState(0)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> "SampleTransform":
        """Seed the generator in place: 2 us, where a new RandomState takes 100 us."""
        if seed is None:
            super().set_random_state(seed, state)
        else:
            self.R.seed(int(seed) % 2**32)
        return self

    def fires(self, prob: float | None = None) -> bool:
        """Draw whether to change this sample."""
        return bool(self.R.random_sample() < (self.prob if prob is None else prob))

    def parts(self, item: Item) -> list[Hashable]:
        """Return the keys of this transform that the item holds."""
        return [key for key in self.keys if key in item]

    def change_channels(
        self, item: Item, change: Callable[[Tensor], Tensor]
    ) -> dict[Hashable, Any]:
        """Return the item with a change of intensities, drawn anew for each channel.

        Parameters
        ----------
        item : mapping
            A sample. Its ``"channels"`` says how many channels its image has; it is
            absent for one. A channel of a stack is all its slices.
        change : callable
            Takes and returns one channel, of shape (n, ...).
        """
        changed = dict(item)
        count = channels_of(item)
        for key in self.parts(item):
            parts = by_channel(item[key], count)
            moved = [change(part) for part in parts]
            changed[key] = moved[0] if count == 1 else torch.cat(moved)
        return changed

    def uniform(self, bounds: Sequence[float]) -> float:
        """Draw a number between two bounds."""
        low, high = bounds
        return float(self.R.uniform(low, high))


def channels_of(item: Mapping[Any, Any]) -> int:
    """Return the number of channels of a sample's image."""
    return int(item.get("channels", 1))


def by_channel(stack: Tensor, channels: int) -> Tensor:
    """Return (C * n, ...) as (C, n, ...): the n slices of each channel."""
    return stack.reshape(channels, -1, *stack.shape[1:])


class RandSymmetryd(SampleTransform):
    """Flip along every axis and rotate by 90 degrees, without interpolation.

    Each flip has probability one half. Axes are exchanged only if they have the same
    length, so that the shape of a batch stays the same.

    Parameters
    ----------
    keys : sequence of str
        Keys of the tensors to change.
    prob : float
        Probability that a sample is changed, in [0, 1].
    plane : {"yx", "all", "none"}
        Which axes are exchanged: the last two, any (for isotropic voxels), or none.
    flip_stack : bool
        Whether to reverse also the order of the slices of a 2.5D stack.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("image", "label"),
        prob: float = 1.0,
        plane: Literal["yx", "all", "none"] = "yx",
        *,
        flip_stack: bool = True,
    ) -> None:
        super().__init__(keys, prob)
        _expect(type(self).__name__, "plane", plane, ("yx", "all", "none"))
        self.plane = plane
        self.flip_stack = flip_stack

    def __call__(self, data: Item) -> Item:
        """Return the flipped and rotated item."""
        if not self.fires():
            return data
        item = dict(data)
        parts = self.parts(item)
        shape = tuple(item[parts[0]].shape[1:])
        order = self._order(shape)
        flips = [axis + 1 for axis in range(len(shape)) if self.fires(0.5)]
        reverse = self.flip_stack and self.fires(0.5)
        count = channels_of(item)
        for key in parts:
            moved = item[key].permute(0, *(axis + 1 for axis in order)).flip(flips)
            several = count if key == "image" else 1
            if reverse and len(shape) == 2 and moved.shape[0] > several:
                moved = by_channel(moved, several).flip(1).flatten(0, 1)
            item[key] = moved.contiguous()
        return item

    def _order(self, shape: Sequence[int]) -> list[int]:
        """Draw an order of the spatial axes that keeps the shape."""
        order = list(range(len(shape)))
        if self.plane == "none":
            return order
        free = order if self.plane == "all" else order[-2:]
        shuffled = [int(axis) for axis in self.R.permutation(free)]
        kept = list(order)
        for place, axis in zip(free, shuffled, strict=True):
            kept[place] = axis
        return kept if all(shape[a] == shape[b] for a, b in enumerate(kept)) else order


class RandSpatiald(SampleTransform):
    """Rotate, scale and deform elastically, in one resampling.

    Images are interpolated linearly; labels take the nearest voxel. Both are reflected
    at the borders, so that no corner is empty.

    Parameters
    ----------
    keys : sequence of str
        Keys of the tensors to change.
    prob : float
        Probability that a sample is changed, in [0, 1].
    rotate_deg : float
        Largest angle of rotation in either direction, in degrees.
    scale : (float, float)
        Bounds of the magnification.
    elastic : float
        Standard deviation of the displacement at the control points, in voxels, as in
        Ronneberger et al. [1]_; with 0 there is no deformation.
    elastic_step : int
        Distance between the control points, in voxels.
    plane : {"yx", "random", "all"}
        Which axes of a 3D patch move: the last two (for anisotropic voxels), a random
        pair, or all three at once, which takes about 15 times as long as a pair.

    References
    ----------
    .. [1] Ronneberger et al. 2015, MICCAI, doi:10.1007/978-3-319-24574-4_28
    """

    def __init__(
        self,
        keys: Sequence[str] = ("image", "label"),
        prob: float = 0.3,
        rotate_deg: float = 180.0,
        scale: Sequence[float] = (0.8, 1.25),
        elastic: float = 0.0,
        elastic_step: int = 32,
        plane: Plane = "yx",
    ) -> None:
        super().__init__(keys, prob)
        name = type(self).__name__
        _expect(name, "plane", plane, ("yx", "random", "all"))
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            message = f"{name}: scale is {scale}; expected [low, high] above 0"
            raise ConfigError(message)
        if elastic < 0 or elastic_step < 1:
            message = (
                f"{name}: elastic is {elastic} with elastic_step {elastic_step}; "
                "expected 0 or more, and 1 or more"
            )
            raise ConfigError(message)
        self.rotate_deg = rotate_deg
        self.scale = tuple(map(float, scale))
        self.elastic = float(elastic)
        self.elastic_step = int(elastic_step)
        self.plane = plane

    def __call__(self, data: Item) -> Item:
        """Return the resampled item."""
        if not self.fires():
            return data
        item = dict(data)
        parts = self.parts(item)
        dims = item[parts[0]].ndim - 1
        if dims == 3 and self.plane == "all":
            grid = self._grid(item[parts[0]].shape[1:])
            for key in parts:
                item[key] = _sample(item[key][None], grid, key)[0]
            return item
        kept = 0 if self.plane == "yx" else int(self.R.randint(3))
        first = _slices(item[parts[0]], kept, dims)
        grid = self._grid(first.shape[1:])
        for key in parts:
            moved = _sample(_slices(item[key], kept, dims)[None], grid, key)[0]
            if dims == 3:
                count = item[key].shape[0]
                moved = by_channel(moved, count).movedim(1, kept + 1)
                moved = moved.contiguous()
            item[key] = moved
        return item

    def _grid(self, shape: Sequence[int]) -> Tensor:
        """Return the source position of each voxel, in the units of ``grid_sample``."""
        axes = [
            (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) for size in shape
        ]
        inverse = torch.tensor(self._matrix(len(shape)), dtype=torch.float32)
        flat = [
            axis.reshape([-1 if i == a else 1 for i in range(len(shape))])
            for a, axis in enumerate(axes)
        ]
        shift = self._elastic(shape)
        columns = []
        for row, size in enumerate(shape):
            where = sum(
                (inverse[row, a] * flat[a] for a in range(1, len(shape))),
                start=inverse[row, 0] * flat[0],
            )
            if shift is not None:
                where = where + shift[row]
            columns.append(where * (2.0 / size))
        return torch.stack(columns[::-1], dim=-1)[None]

    def _matrix(self, dims: int) -> NDArray[np.float64]:
        """Draw the matrix from output to input coordinates, in voxels."""
        factor = 1 / math.exp(self.uniform([math.log(s) for s in self.scale]))
        angle = math.radians(self.uniform((-self.rotate_deg, self.rotate_deg)))
        if dims == 2:
            cos, sin = math.cos(angle), math.sin(angle)
            return factor * np.array([[cos, -sin], [sin, cos]])
        direction = self.R.standard_normal(3)
        z, y, x = direction / np.linalg.norm(direction)
        cross = np.array([[0, -x, y], [x, 0, -z], [-y, z, 0]])
        turn = np.eye(3) + math.sin(angle) * cross
        matrix: NDArray[np.float64]
        matrix = factor * (turn + (1 - math.cos(angle)) * cross @ cross)
        return matrix

    def _elastic(self, shape: Sequence[int]) -> Tensor | None:
        """Draw a smooth displacement, shape (dims, ...), in voxels."""
        if not self.elastic:
            return None
        knots = [max(2, size // self.elastic_step + 1) for size in shape]
        points = self.elastic * self.R.standard_normal((1, len(shape), *knots))
        mode = "bicubic" if len(shape) == 2 else "trilinear"
        smooth = interpolate(
            torch.from_numpy(points.astype(np.float32)),
            size=tuple(shape),
            mode=mode,
            align_corners=True,
        )
        return smooth[0]


class RandRolld(SampleTransform):
    """Shift circularly: voxels that leave at one border enter at the opposite one.

    Parameters
    ----------
    keys : sequence of str
        Keys of the tensors to change.
    prob : float
        Probability that a sample is changed, in [0, 1].
    plane : {"yx", "all"}
        Which spatial axes roll: the last two, or all.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("image", "label"),
        prob: float = 0.5,
        plane: Literal["yx", "all"] = "yx",
    ) -> None:
        super().__init__(keys, prob)
        _expect(type(self).__name__, "plane", plane, ("yx", "all"))
        self.plane = plane

    def __call__(self, data: Item) -> Item:
        """Return the shifted item."""
        if not self.fires():
            return data
        item = dict(data)
        parts = self.parts(item)
        shape = item[parts[0]].shape[1:]
        dims = list(range(1, len(shape) + 1))
        dims = dims if self.plane == "all" else dims[-2:]
        shifts = [int(self.R.randint(shape[dim - 1])) for dim in dims]
        for key in parts:
            item[key] = item[key].roll(shifts, dims)
        return item


class RandSliceShiftd(SampleTransform):
    """Shift slices against their neighbours, as in badly aligned serial sections.

    In a 3D patch all slices from a random one on are shifted, with their labels. In a
    2.5D stack one slice other than the centre is shifted; the label is that of the
    centre and stays. Borders are reflected. A single slice is not changed.

    Parameters
    ----------
    keys : sequence of str
        Keys of the tensors to change.
    prob : float
        Probability that a sample is changed, in [0, 1].
    most : int
        Largest shift along y and along x, in voxels.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("image", "label"),
        prob: float = 0.1,
        most: int = 6,
    ) -> None:
        super().__init__(keys, prob)
        self.most = int(most)

    def __call__(self, data: Item) -> Item:
        """Return the item with shifted slices."""
        image = data["image"]
        stack, channels = image.ndim == 3, channels_of(data)
        count = image.shape[0] // channels if stack else image.shape[1]
        if count < 2 or not self.fires():
            return data
        item = dict(data)
        shift = [int(v) for v in self.R.randint(-self.most, self.most + 1, 2)]
        if stack:
            centre = count // 2
            place = int(self.R.randint(count - 1))
            place += place >= centre
            moved = image.clone()
            # The slice of every channel is shifted.
            moved[place::count] = _shifted(image[place::count], shift)
            item["image"] = moved
            return item
        place = int(self.R.randint(1, count))
        for key in self.parts(item):
            moved = item[key].clone()
            moved[:, place:] = _shifted(item[key][:, place:], shift)
            item[key] = moved
        return item


def _slices(part: Tensor, kept: int, dims: int) -> Tensor:
    """Return a view (n, h, w) whose slices all move in the same way."""
    return part if dims == 2 else part.movedim(kept + 1, 1).flatten(0, 1)


def _sample(part: Tensor, grid: Tensor, key: Hashable) -> Tensor:
    mode = "bilinear" if key == "image" else "nearest"
    moved = grid_sample(
        part.to(torch.float32).contiguous(),
        grid,
        mode=mode,
        padding_mode="reflection",
        align_corners=False,
    )
    return moved.to(part.dtype)


def _shifted(part: Tensor, shift: Sequence[int]) -> Tensor:
    """Return the part moved along its last two axes, reflected at the borders."""
    for dim, by in zip((-2, -1), shift, strict=True):
        size = part.shape[dim]
        where = torch.from_numpy(mirrored(np.arange(size) - by, size))
        part = part.index_select(dim, where)
    return part


def _expect(name: str, key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        message = f"{name}: {key} is {value!r}; expected one of {', '.join(known)}"
        raise ConfigError(message)
