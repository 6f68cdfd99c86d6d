"""Place the large shapes: the cell, its nucleus and the mount around them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.roi import Zyx
from cellseg3d.simulate.fields import FloatArray, coordinates_um, smooth_field

Mount = Literal["capillary", "grid"]

# Share of the room that a cell fills, and how far noise bends its surface (in radii;
# the noise is cut off at CUT standard deviations).
FILL = (0.84, 1.0)
WARP = (0.05, 0.10)
NUCLEUS_SHARE = (0.48, 0.62)
CUT = 2.2


@dataclass(frozen=True, slots=True)
class Room:
    """The space that a mount leaves for the cell.

    Parameters
    ----------
    mount : {"capillary", "grid"}
        A glass tube along y, or a film across z with ice on it.
    half_um : tuple of float
        Half the space (z, y, x) that a cell may fill, in um.
    floor_um : float
        Grid: height (z) of the film above the middle of the volume, in um.
    top_um : float
        Grid: height of the ice's surface; capillary: inner radius of the tube.
    wall_um : float
        Capillary: thickness of the glass.
    """

    mount: Mount
    half_um: tuple[float, float, float]
    floor_um: float
    top_um: float
    wall_um: float


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """Semi-axes (um), a rotation, a centre (um from the middle), all (z, y, x)."""

    radii_um: NDArray[np.float64]
    rotation: NDArray[np.float64]
    centre_um: NDArray[np.float64]

    @property
    def mean_um(self) -> float:
        """The radius of the ball of the same volume, in um."""
        return float(np.prod(self.radii_um) ** (1 / 3))


def make_room(shape: Zyx, spacing_um: float, mount: Mount) -> Room:
    """Return the space that a mount leaves in a volume of this shape.

    A tube's wall lies inside the volume, so a full rotation sees all of it. A film and
    its ice continue beyond the volume.
    """
    half = [size * spacing_um / 2 for size in shape]
    if mount == "grid":
        floor, top = -0.56 * half[0], 0.70 * half[0]
        return Room(mount, ((top - floor) / 2, half[1], half[2]), floor, top, 0.0)
    outer = 0.97 * min(half[0], half[2])
    wall = max(1.5 * spacing_um, 0.04 * outer)
    inner = outer - wall
    return Room(mount, (inner, half[1], inner), -inner, inner, wall)


def draw_cell(room: Room, rng: np.random.Generator) -> Ellipsoid:
    """Draw a cell that fits its room: round in a tube, flattened on a film."""
    # Parts that bend out of the room are cut off by `clearance_um`.
    limit = np.array(room.half_um) / (1 + WARP[1]) * rng.uniform(*FILL)
    if room.mount == "grid":
        limit[1:] = min(limit[1], limit[2])
        # A dome: three quarters of the ellipsoid's height stand above the film.
        radii = limit * np.array([2 / 1.5, *rng.uniform(0.8, 1.0, 2)])
        radii[0] = min(radii[0], 0.8 * radii[1:].min())
        centre = np.array([room.floor_um + 0.5 * radii[0], 0.0, 0.0])
        return Ellipsoid(radii, _rotation_about_z(rng), centre)
    radius = min(limit[0], limit[2], 0.95 * limit[1])
    radii = np.full(3, radius) * rng.uniform(0.82, 1.0, 3)
    slack = 0.7 * (radius - radii.max())
    return Ellipsoid(radii, _rotation(rng), rng.uniform(-1, 1, 3) * slack)


def clearance_um(room: Room, shape: Zyx, spacing_um: float) -> FloatArray:
    """Return each voxel's distance from the border of the room, in um, > 0 inside.

    The result has shape (Z, Y, X or 1). A cell ends where it is 0, so cells flatten
    against glass and film.
    """
    z, y, x = coordinates_um(shape, spacing_um)
    if room.mount == "capillary":
        free: FloatArray = np.float32(room.top_um) - np.sqrt(z * z + x * x)
    else:
        side = np.float32(room.half_um[2]) - np.abs(x)
        free = np.minimum(z - np.float32(room.floor_um), side)
        np.minimum(free, np.float32(room.top_um) - z, out=free)
    ends = np.float32(room.half_um[1]) - np.abs(y)
    return np.minimum(free, ends) - np.float32(1.5 * spacing_um)


def draw_nucleus(cell: Ellipsoid, mount: Mount, rng: np.random.Generator) -> Ellipsoid:
    """Draw a nucleus inside a cell, off its centre."""
    share = rng.uniform(*NUCLEUS_SHARE)
    radii = cell.radii_um * share * rng.uniform(0.86, 1.1, 3)
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    free = 0.5 * (1 - share) * cell.radii_um * rng.uniform(0.2, 0.9)
    shift = cell.rotation @ (direction * free)
    if mount == "grid":  # the middle of the dome, not of the whole ellipsoid
        shift[0] = 0.25 * cell.radii_um[0]
    return Ellipsoid(radii, cell.rotation, cell.centre_um + shift)


def depth_um(
    ellipsoid: Ellipsoid,
    shape: Zyx,
    spacing_um: float,
    warp: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the approximate depth of each voxel in a bent ellipsoid, in um.

    Parameters
    ----------
    ellipsoid : Ellipsoid
        The ellipsoid before bending.
    shape : tuple of int
        Shape (Z, Y, X), in voxels.
    spacing_um : float
        Voxel edge.
    warp : float
        Standard deviation of the bending, in radii.
    rng : numpy Generator

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)
        Depth in um, > 0 inside and 0 at the surface. It is exact for a ball and
        otherwise correct only near the surface.
    """
    axes = coordinates_um(shape, spacing_um)
    z, y, x = (
        axis - np.float32(at)
        for axis, at in zip(axes, ellipsoid.centre_um, strict=True)
    )
    scaled = (ellipsoid.rotation / ellipsoid.radii_um).astype(np.float32)
    form = (scaled @ scaled.T).astype(np.float32)
    depth: FloatArray = form[0, 0] * z * z + 2 * form[0, 1] * z * y
    depth = depth + (form[1, 1] * y * y + 2 * form[1, 2] * y * x)
    depth += form[2, 2] * x * x + 2 * form[0, 2] * z * x
    np.sqrt(np.maximum(depth, 0, out=depth), out=depth)
    np.subtract(1, depth, out=depth)
    bend = smooth_field(shape, 0.8 * ellipsoid.mean_um / spacing_um, rng)
    np.clip(bend, -CUT, CUT, out=bend)
    bend *= np.float32(warp)
    depth += bend
    depth *= np.float32(ellipsoid.mean_um)
    return depth


def _rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    turn: NDArray[np.float64] = q * np.sign(np.diag(r))
    return turn


def _rotation_about_z(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0, 0], [0, cos, -sin], [0, sin, cos]])
