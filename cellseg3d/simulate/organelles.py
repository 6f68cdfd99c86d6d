"""Add mitochondria as branched tubes, and lipid droplets and vesicles as balls."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cellseg3d.simulate.components import (
    CYTOPLASM,
    LIPID_DROPLET,
    MITOCHONDRION,
    VESICLE,
    Palette,
)
from cellseg3d.simulate.fields import FloatArray

FloatVector = NDArray[np.float64]
# Resolution of the grid on which free places are searched.
COARSE = 96
# Share of the cytoplasm that each kind fills, in percent.
SHARE_PERCENT = {
    MITOCHONDRION: (6.0, 13.0),
    LIPID_DROPLET: (0.4, 2.0),
    VESICLE: (1.0, 4.0),
}
# Radii in um for a cell of 4 um radius; they are a little smaller in smaller cells.
RADIUS_UM = {
    MITOCHONDRION: (0.14, 0.23),
    LIPID_DROPLET: (0.13, 0.32),
    VESICLE: (0.14, 0.38),
}
GAP_UM = 0.03
MITOCHONDRION_LENGTH_UM = (0.8, 5.0)
TRIES = 200


@dataclass(frozen=True)
class Ball:
    """A ball: centre (z, y, x) in voxels and radius in voxels."""

    centre: NDArray[np.float64]
    radius: float


@dataclass
class Canvas:
    """The volume being painted.

    Parameters
    ----------
    labels : ndarray of uint8, shape (Z, Y, X)
        Label values.
    lac : ndarray of float32, shape (Z, Y, X)
        Linear absorption coefficients, 1/um.
    spacing_um : float
        Voxel edge.
    """

    labels: NDArray[np.uint8]
    lac: FloatArray
    spacing_um: float

    def paint(self, ball: Ball, label: int, lac_per_um: float) -> int:
        """Paint a ball where there is cytoplasm; return how many voxels."""
        low = np.maximum(np.floor(ball.centre - ball.radius).astype(int), 0)
        high = np.ceil(ball.centre + ball.radius).astype(int) + 1
        high = np.minimum(high, self.labels.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        offsets = [
            (np.arange(a, b) - c) ** 2
            for a, b, c in zip(low, high, ball.centre, strict=True)
        ]
        z, y, x = np.meshgrid(*offsets, indexing="ij", sparse=True)
        inside = (z + y + x) <= ball.radius**2
        inside &= self.labels[box] == CYTOPLASM
        self.labels[box][inside] = label
        self.lac[box][inside] = lac_per_um
        return int(inside.sum())


class FreeRoom:
    """The distance of each place in the cytoplasm from everything else.

    The distance is measured on a coarse grid, in um.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.step = max(1, -(-max(canvas.labels.shape) // COARSE))
        edge = self.step * canvas.spacing_um
        steps = (slice(None, None, self.step),) * 3
        free = canvas.labels[steps] == CYTOPLASM
        # The coarse grid can miss half a step of an obstacle.
        self.clearance_um = distance_transform_edt(free, sampling=edge) - edge / 2
        self._flat = self.clearance_um.ravel()

    def draw(self, need_um: float, rng: np.random.Generator) -> FloatVector | None:
        """Return a random place (z, y, x), in voxels, with this much free space."""
        found = np.flatnonzero(self._flat > need_um)
        if not len(found):
            return None
        index = np.unravel_index(rng.choice(found), self.clearance_um.shape)
        place = np.array(index) + rng.uniform(-0.5, 0.5, 3)
        drawn: FloatVector = place * self.step
        return drawn

    def at(self, place: NDArray[np.float64]) -> float:
        """Return the free space around a place given in voxels, in um; 0 outside."""
        index = np.rint(place / self.step).astype(int)
        if (index < 0).any() or (index >= self.clearance_um.shape).any():
            return 0.0
        return float(self.clearance_um[tuple(index)])


def add_organelles(
    canvas: Canvas, palette: Palette, cell_um: float, rng: np.random.Generator
) -> None:
    """Fill a cell's cytoplasm with mitochondria, lipid droplets and vesicles.

    Parameters
    ----------
    canvas : Canvas
        The volume; it is painted in place.
    palette : Palette
        Coefficients of the cell; each organelle varies by a few percent.
    cell_um : float
        Radius of the cell, in um.
    rng : numpy Generator
    """
    cytoplasm = int(np.count_nonzero(canvas.labels == CYTOPLASM))
    scale = float(np.clip((cell_um / 4) ** 0.4, 0.6, 1.2))
    for label, name in (
        (MITOCHONDRION, "mitochondrion"),
        (LIPID_DROPLET, "lipid droplet"),
        (VESICLE, "vesicle"),
    ):
        goal = rng.uniform(*SHARE_PERCENT[label]) / 100 * cytoplasm
        room, painted, failed = FreeRoom(canvas), 0, 0
        while painted < goal and failed < TRIES:
            radius_um = max(
                scale * rng.uniform(*RADIUS_UM[label]), 1.2 * canvas.spacing_um
            )
            lac = palette[name] * float(rng.normal(1, 0.04))
            if label == MITOCHONDRION:
                balls = _tube(room, radius_um, canvas.spacing_um, rng)
            else:
                balls = _single(room, radius_um, canvas, rng)
            new = sum(canvas.paint(ball, label, lac) for ball in balls)
            painted += new
            failed += new == 0


def _single(
    room: FreeRoom, radius_um: float, canvas: Canvas, rng: np.random.Generator
) -> Iterator[Ball]:
    place = room.draw(radius_um + GAP_UM, rng)
    if place is None:
        return
    z, y, x = (
        int(value) for value in np.clip(place, 0, np.array(canvas.lac.shape) - 1)
    )
    if canvas.labels[z, y, x] == CYTOPLASM:
        yield Ball(place, radius_um / canvas.spacing_um)


def _tube(
    room: FreeRoom, radius_um: float, spacing_um: float, rng: np.random.Generator
) -> Iterator[Ball]:
    """Yield balls along a bent line that branches occasionally."""
    start = room.draw(radius_um + GAP_UM, rng)
    if start is None:
        return
    length_um = rng.uniform(*MITOCHONDRION_LENGTH_UM)
    tips = [(start, _direction(rng), length_um)]
    while tips:
        place, heading, left_um = tips.pop()
        while left_um > 0:
            radius = radius_um * float(rng.uniform(0.88, 1.12))
            yield Ball(place, radius / spacing_um)
            step_um = 0.5 * radius_um
            following = _follow(
                room, place, heading, (step_um, radius), spacing_um, rng
            )
            if following is None:
                break
            place, heading = following
            left_um -= step_um
            if rng.random() < 0.04:
                tips.append((place, _direction(rng), 0.5 * left_um))


def _follow(
    room: FreeRoom,
    place: FloatVector,
    heading: FloatVector,
    lengths_um: tuple[float, float],
    spacing_um: float,
    rng: np.random.Generator,
) -> tuple[FloatVector, FloatVector] | None:
    """Return the next place of a tube that stays in the cytoplasm, or None."""
    step_um, radius_um = lengths_um
    for attempt in range(8):
        turned = heading + (0.1 + 0.15 * attempt) * rng.standard_normal(3)
        turned /= np.linalg.norm(turned)
        there = place + turned * (step_um / spacing_um)
        if room.at(there) > radius_um:
            return there, turned
    return None


def _direction(rng: np.random.Generator) -> FloatVector:
    vector = rng.standard_normal(3)
    unit: FloatVector = vector / np.linalg.norm(vector)
    return unit
