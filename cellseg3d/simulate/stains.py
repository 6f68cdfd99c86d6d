"""Simulate a volume of two stains whose objects of interest are those with both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellseg3d import __version__
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.roi import Zyx, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume

STAINS = ("DAPI", "actin")
CLASSES = ("background", "both")
# Slices of a light microscope lie further apart than its pixels.
SLICE_TO_PIXEL = 2.0
# In raw units, for each stain: empty field, its noise, and what a ball adds.
LEVELS = (300.0, 2000.0)
NOISE = (40.0, 90.0)
GAINS = (500.0, 1500.0)
RADIUS = 5
VOXELS_PER_BALL = 2304
# Two stains in float64, the labels, and one working copy.
BYTES_PER_VOXEL = 40


@dataclass(frozen=True)
class StainedCase:
    """A simulated volume of two stains and its true labels.

    Parameters
    ----------
    image : Volume
        uint16, shape (2, Z, Y, X); its channels are called DAPI and actin.
    labels : Volume
        uint8, shape (Z, Y, X); 1 where a ball has both stains.
    volumes_um3 : dict of str to float
        True volume of the class.
    """

    image: Volume
    labels: Volume
    volumes_um3: dict[str, float]


def simulate_stains(
    shape: Sequence[int] | int,
    seed: int,
    pixel_um: float = 0.1,
    *,
    balls: int | None = None,
) -> StainedCase:
    """Simulate balls, of which a third has both stains; equal seeds give equal volumes.

    A third of the balls is in DAPI alone and a third in actin alone, so that neither
    stain tells which balls belong to the class. Noise is normal, and there is no blur.

    Parameters
    ----------
    shape : three ints or one
        Shape (Z, Y, X), in voxels; one number gives a cube.
    seed : int
        Seed of every random number, 0 or more.
    pixel_um : float
        Edge of a voxel along y and x, in um; slices lie twice as far apart.
    balls : int, optional
        How many balls; one for each 2304 voxels, at least 12, when None.

    Raises
    ------
    ConfigError
        If the seed is negative, or the pixel has no size.
    EnvironmentFault
        If the simulation needs more memory than is available.

    Examples
    --------
    >>> import cellseg3d
    >>> cell = cellseg3d.simulate_stains((4, 24, 24), seed=1)
    >>> cell.image.channel_names, cell.image.shape, cell.labels.shape
    (('DAPI', 'actin'), (4, 24, 24), (4, 24, 24))
    """
    size = zyx(shape)
    if seed < 0:
        raise ConfigError(f"seed is {seed}; expected 0 or more")
    if not pixel_um > 0:
        raise ConfigError(f"voxel edge is {pixel_um:g} um; expected more than 0")
    check_memory(BYTES_PER_VOXEL * int(np.prod(size)), f"simulating {list(size)}")
    rng = np.random.default_rng(seed)
    empty, noise = (np.reshape(each, (2, 1, 1, 1)) for each in (LEVELS, NOISE))
    stains = rng.normal(empty, noise, (2, *size))
    count = max(12, round(np.prod(size) / VOXELS_PER_BALL)) if balls is None else balls
    kinds = _kinds(size, count, rng)
    for channel, (alone, gain) in enumerate(zip((1, 2), GAINS, strict=True)):
        stains[channel][(kinds == alone) | (kinds == 3)] += gain
    spacing = Spacing(SLICE_TO_PIXEL * pixel_um, pixel_um, pixel_um)
    notes = {"simulated": True, "generator": f"cellseg3d {__version__}", "seed": seed}
    grey = stains.clip(0, 65535).astype(np.uint16)
    labels = (kinds == 3).astype(np.uint8)
    voxel_um3 = math.prod(spacing.zyx)
    return StainedCase(
        Volume(grey, spacing, "arbitrary", notes, channel_names=STAINS),
        Volume(labels, spacing, "arbitrary", notes),
        {CLASSES[1]: int(labels.sum(dtype=np.int64)) * voxel_um3},
    )


def _kinds(size: Zyx, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return 1 in balls of the first stain, 2 of the second, 3 of both; 0 outside."""
    kinds = np.zeros(size, np.uint8)
    for number in range(count):
        centre = [int(rng.integers(0, side)) for side in size]
        box = tuple(
            slice(max(0, at - RADIUS), min(side, at + RADIUS + 1))
            for at, side in zip(centre, size, strict=True)
        )
        axes = (np.arange(part.start, part.stop) for part in box)
        grid = np.meshgrid(*axes, indexing="ij", sparse=True)
        away = sum((line - at) ** 2 for line, at in zip(grid, centre, strict=True))
        here = kinds[box]
        here[(away <= RADIUS**2) & (here == 0)] = 1 + number % 3
    return kinds
