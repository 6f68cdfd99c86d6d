"""A whole cell of known geometry: label values and absorption coefficients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from cellseg3d.core.roi import Zyx, zyx
from cellseg3d.simulate.body import (
    WARP,
    Ellipsoid,
    Mount,
    Room,
    clearance_um,
    depth_um,
    draw_cell,
    draw_nucleus,
    make_room,
)
from cellseg3d.simulate.components import (
    CARBON_PER_UM,
    CYTOPLASM,
    FILM_UM,
    LABEL_NAMES,
    MITOCHONDRION,
    NUCLEUS,
    Palette,
    draw_palette,
)
from cellseg3d.simulate.fields import FloatArray, coordinates_um, smooth_field
from cellseg3d.simulate.organelles import Canvas, add_organelles

# Membranes are thinner than a voxel; they appear as wide as the microscope's blur.
MEMBRANE_UM = 0.06
ENVELOPE_UM = 0.07
# Distance that condensed chromatin reaches inwards from the nuclear envelope.
RIM_UM = 0.18


@dataclass(frozen=True)
class Cell:
    """A cell in its mount, before it is imaged.

    Parameters
    ----------
    labels : ndarray of uint8, shape (Z, Y, X)
        Label values (`components.LABEL_NAMES`).
    lac : ndarray of float32, shape (Z, Y, X)
        Linear absorption coefficients, 1/um.
    palette : Palette
        The coefficients drawn for this cell.
    layers_per_um : ndarray of float32, shape (Z,)
        Coefficients that continue beyond the volume across z (a grid's film and ice),
        1/um; zeros for a capillary, which ends inside the volume.
    mount : {"capillary", "grid"}
    """

    labels: NDArray[np.uint8]
    lac: FloatArray
    palette: Palette
    layers_per_um: FloatArray
    mount: Mount


def build_cell(
    shape: Zyx,
    spacing_um: float,
    mount: Mount,
    rng: np.random.Generator,
    *,
    glass: bool = True,
) -> Cell:
    """Build a random cell: membrane, cytoplasm, nucleus, organelles, mount.

    Parameters
    ----------
    shape : tuple of int
        Shape (Z, Y, X), in voxels.
    spacing_um : float
        Voxel edge.
    mount : {"capillary", "grid"}
        Glass tube along y, or film across z.
    rng : numpy Generator
        Random generator; the same state gives the same cell.
    glass : bool
        Whether a capillary's wall is in view; without it ice fills its place, as where
        the tube is wider than the field.
    """
    palette = draw_palette(rng)
    room = make_room(shape, spacing_um, mount)
    body = draw_cell(room, rng)
    nucleus = draw_nucleus(body, mount, rng)
    lac, layers = _surroundings(shape, spacing_um, room, palette, glass=glass)
    canvas = Canvas(np.zeros(shape, np.uint8), lac, spacing_um)
    deep = depth_um(body, shape, spacing_um, float(rng.uniform(*WARP)), rng)
    np.minimum(deep, clearance_um(room, shape, spacing_um), out=deep)
    _paint_cytoplasm(canvas, deep, palette, rng)
    _paint_nucleus(canvas, nucleus, deep, palette, rng)
    del deep
    add_organelles(canvas, palette, body.mean_um, rng)
    _mottle_mitochondria(canvas, rng)
    return Cell(canvas.labels, canvas.lac, palette, layers, mount)


def volumes_um3(labels: NDArray[np.uint8], spacing_um: float) -> dict[str, float]:
    """Return the volume of every component but the background, in um^3."""
    counts = np.bincount(labels.ravel(), minlength=max(LABEL_NAMES) + 1)
    return {
        name: float(counts[value]) * spacing_um**3
        for value, name in LABEL_NAMES.items()
        if value
    }


def _surroundings(
    shape: Zyx, spacing_um: float, room: Room, palette: Palette, *, glass: bool
) -> tuple[FloatArray, FloatArray]:
    """Return the empty mount (Z, Y, X) and what continues beyond the volume (Z,)."""
    z, _, x = coordinates_um(shape, spacing_um)
    lac = np.zeros(shape, np.float32)
    layers = np.zeros(shape[0], np.float32)
    if room.mount == "capillary":
        radius = np.sqrt(z * z + x * x)
        tube = np.where(radius < room.top_um, palette["ice"], 0.0)
        wall = (radius >= room.top_um) & (radius < room.top_um + room.wall_um)
        outside = palette["glass" if glass else "ice"]
        lac += np.where(wall, outside, tube).astype(np.float32)
        return lac, layers
    height = z.ravel()
    ice = (height > room.floor_um) & (height < room.top_um)
    layers[ice] = palette["ice"]
    film = int(np.argmin(np.abs(height - room.floor_um)))
    layers[film] = CARBON_PER_UM * FILM_UM / spacing_um
    lac += layers[:, None, None]
    return lac, layers


def _paint_cytoplasm(
    canvas: Canvas, deep: FloatArray, palette: Palette, rng: np.random.Generator
) -> None:
    """Paint cytosol, with texture at two scales, and the membrane around it."""
    shape, edge = zyx(canvas.labels.shape), canvas.spacing_um
    inside = deep > 0
    fine = smooth_field(shape, max(1.5, 0.09 / edge), rng)
    fine *= np.float32(0.06 * palette["cytoplasm"])
    broad = smooth_field(shape, 0.7 / edge, rng)
    broad *= np.float32(0.04 * palette["cytoplasm"])
    fine += broad
    fine += np.float32(palette["cytoplasm"])
    thickness = np.float32(max(MEMBRANE_UM, edge))
    fine[deep < thickness] = palette["plasma membrane"]
    np.copyto(canvas.lac, fine, where=inside)
    canvas.labels[inside] = CYTOPLASM


def _paint_nucleus(
    canvas: Canvas,
    nucleus: Ellipsoid,
    deep: FloatArray,
    palette: Palette,
    rng: np.random.Generator,
) -> None:
    """Paint chromatin, nucleoli and the envelope."""
    shape, edge = zyx(canvas.labels.shape), canvas.spacing_um
    inner = depth_um(nucleus, shape, edge, float(rng.uniform(*WARP)), rng)
    np.minimum(inner, deep - np.float32(max(0.15, 3 * edge)), out=inner)
    found = find_objects((inner > 0).astype(np.uint8))
    box = found[0]
    depth = np.ascontiguousarray(inner[box])
    del inner
    lac = _chromatin(depth, edge, palette, rng)
    lac[depth < max(ENVELOPE_UM, edge)] = palette["nuclear envelope"]
    inside = depth > 0
    canvas.lac[box][inside] = lac[inside]
    canvas.labels[box][inside] = NUCLEUS


def _chromatin(
    depth: FloatArray, edge: float, palette: Palette, rng: np.random.Generator
) -> FloatArray:
    """Return the coefficients of a nucleus with loose and condensed chromatin.

    Condensed chromatin is a connected network of random patches, denser at the
    envelope and around the nucleoli.
    """
    shape = zyx(depth.shape)
    patches = smooth_field(shape, max(1.5, rng.uniform(0.14, 0.24) / edge), rng)
    patches += np.exp(-np.maximum(depth, 0) / np.float32(RIM_UM))
    lobes = smooth_field(shape, max(2.0, rng.uniform(0.4, 0.6) / edge), rng)
    lobes -= np.float32(rng.uniform(1.7, 2.3))
    nucleolus = (lobes > 0) & (depth > 0.25 * depth.max())
    patches[(lobes > -0.25) & ~nucleolus] += np.float32(0.4)
    # The edge is soft, as no patch has a sharp one at this resolution.
    dense = 1 / (1 + np.exp(-(patches - np.float32(rng.uniform(0.3, 0.8))) * 3))
    gain = palette["heterochromatin"] - palette["euchromatin"]
    lac: FloatArray = (palette["euchromatin"] + gain * dense).astype(np.float32)
    lac[nucleolus] = palette["nucleolus"]
    return lac


def _mottle_mitochondria(canvas: Canvas, rng: np.random.Generator) -> None:
    """Vary the inside of mitochondria, as unresolved cristae do."""
    where = canvas.labels == MITOCHONDRION
    length = max(1.5, 0.07 / canvas.spacing_um)
    texture = smooth_field(zyx(canvas.labels.shape), length, rng)
    canvas.lac[where] *= 1 + np.float32(0.08) * texture[where]
