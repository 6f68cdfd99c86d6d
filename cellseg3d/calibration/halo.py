"""Measure the errors at the seams between windows and find the smallest halo.

A seam is the place where the cores of two windows meet.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.volume import Volume
from cellseg3d.models.geometry import geometry_of
from cellseg3d.prediction.field import VolumeField
from cellseg3d.prediction.lattice import CORE_3D, Lattice, WindowSettings
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import alone
from cellseg3d.prediction.setup import seen_by, sources_of, use_of
from cellseg3d.prediction.sources import Source
from cellseg3d.prediction.trial import prepare_for

# The largest region, in voxels, that passes through a network in one piece.
WHOLE_VOXELS = 160**3
BOUND = 0.02
# This many slices show the seams of a network with slices across one axis.
SLICES = 8


@dataclass(frozen=True)
class Seams:
    """The differences between windows and one pass over the whole region.

    Parameters
    ----------
    source : str
        The network and its axis.
    halo : int
        The halo in voxels, the largest along any axis.
    difference : float
        The largest difference of a probability.
    place_zyx : tuple of int
        The voxel of that difference.
    changed : float
        The share of voxels whose label differs.
    """

    source: str
    halo: int
    difference: float
    place_zyx: Zyx
    changed: float


def verify_seams(
    volume: Volume,
    model: TrainedModel,
    *,
    precision: str = "float32",
    acceleration: str = "auto",
    axes: str | None = None,
    limit: int = WHOLE_VOXELS,
) -> list[Seams]:
    """Compare windows with one pass over the middle of a volume.

    Parameters
    ----------
    volume : Volume
    model : TrainedModel
    precision : str
        The precision of both. With float32 only the seams make a difference.
    acceleration : {"auto", "off"}
        As in `SegmentOptions`.
    axes : str, optional
        The axes to sweep. When None, the bundle's own are taken.
    limit : int
        The most voxels that pass through the network in one piece.

    Returns
    -------
    list of Seams
        One for each source.
    """
    if model.members:
        return [
            seams
            for member in model.members
            for seams in verify_seams(
                volume,
                member,
                precision=precision,
                acceleration=acceleration,
                axes=axes,
                limit=limit,
            )
        ]
    window = WindowSettings.parse(model.window, model.spec)
    if window.core is None and model.spec.spatial_dims == 3:
        # Windows as wide as the region would have no seams.
        model = replace(model, window={**model.window, "core": [CORE_3D] * 3})
    options = SegmentOptions(
        axes=axes, device="cpu", precision=precision, acceleration=acceleration
    )
    sources = sources_of(model, _middle(volume, model, limit), options)
    return [_compare(source) for source in sources]


def calibrate_halo(
    model: TrainedModel,
    volumes: Sequence[Volume],
    bound: float = BOUND,
    *,
    most: int = 96,
    limit: int = WHOLE_VOXELS,
    seconds: float = math.inf,
    progress: Callable[[Seams], None] | None = None,
) -> dict[str, object]:
    """Return the window of a bundle with the smallest halo that keeps a bound.

    Halos of 0, 1, 2, ... total strides are tried until no probability, on any volume,
    differs by more than `bound` from one pass over the whole volume. A halo with which
    every window reads the whole volume cannot be measured and is never returned.

    Parameters
    ----------
    model : TrainedModel
    volumes : sequence of Volume
        Volumes of which the middle is compared.
    bound : float
        The largest difference that is allowed, in (0, 1].
    most : int
        The largest halo that is tried, in voxels.
    limit : int
        The most voxels of a volume that pass through the network in one piece.
    seconds : float
        After this time no further halo is tried.
    progress : callable, optional
        Is called with each measurement.

    Returns
    -------
    dict
        A copy of `model.window` with ``halo`` and ``halo_error``.

    Raises
    ------
    ConfigError
        If there is no volume, the volumes are too small to have seams, or no halo keeps
        the bound within the time.
    """
    if not volumes:
        message = (
            f"{model.name}: a halo is calibrated on at least one volume, and none was "
            "given"
        )
        raise ConfigError(message)
    begun = time.monotonic()
    window = WindowSettings.parse(model.window, model.spec)
    step = max(geometry_of(model.network).stride)
    fields = [_middle(volume, model, limit, window.axes) for volume in volumes]
    options = SegmentOptions(device="cpu", precision="float32")
    network = prepare_for(fields[0], model.network, model.spec, window.axes, options)
    dims = model.spec.spatial_dims
    longest = max(max(field.shape) for field in fields)
    # Small cores have many seams, so a halo that suits them suits larger cores.
    core = [max(2 * step, min(32, longest // 3))] * dims
    whole: dict[tuple[int, str], np.ndarray] = {}
    found, halo = math.inf, -step
    for halo in range(0, most + 1, step):
        tried = {**model.window, "core": core, "halo": [halo] * dims}
        use = use_of(replace(model, window=tried), network, options)
        pairs = [(n, s) for n, field in enumerate(fields) for s in use.sources(field)]
        if not any(_has_seams(source.lattice) for _, source in pairs):
            message = (
                f"{model.name}: volumes of at most {longest} voxels a side have no "
                f"seams with a halo of {halo}, so it cannot be measured; give larger "
                "volumes"
            )
            raise ConfigError(message)
        found = 0.0
        for number, source in pairs:
            key = (number, source.name)
            if key not in whole:
                whole[key] = _seamless(source)
            seams = _compare(source, whole[key])
            found = max(found, seams.difference)
            if progress is not None:
                progress(seams)
        if found <= bound:
            return {**model.window, "halo": [halo] * dims, "halo_error": found}
        if time.monotonic() - begun > seconds:
            break
    message = (
        f"{model.name}: no halo up to {halo} voxels keeps the difference below "
        f"{bound} (it is {found:.3f}); allow a wider halo, more time or a larger bound"
    )
    raise ConfigError(message)


def _compare(source: Source, expected: np.ndarray | None = None) -> Seams:
    """Return the differences of a source from its answer without seams."""
    found = _probs(source)
    if expected is None:
        expected = _seamless(source)
    apart = np.abs(found - expected).max(axis=0)
    place = zyx([int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape)])
    changed = float((found.argmax(0) != expected.argmax(0)).mean())
    halo = [
        n
        for axis, n in zip("zyx", source.lattice.halo, strict=True)
        if axis != source.lattice.axis
    ]
    return Seams(source.name, max(halo), float(apart.max()), place, changed)


def _seamless(source: Source) -> np.ndarray:
    """Return the probabilities of one pass over the whole volume, or whole slices."""
    use = replace(source.use, sees_window=False)
    return _probs(replace(source, use=use, lattice=_one_window(source.lattice)))


def _has_seams(lattice: Lattice) -> bool:
    """Return whether some window does not read the whole volume, or whole slices."""
    return any(
        read < side
        for tile in lattice.windows()
        for letter, read, side in zip(
            "zyx", tile.read.shape, lattice.padded, strict=True
        )
        if letter != lattice.axis
    )


def _probs(source: Source) -> np.ndarray:
    """Return the probabilities (K, Z, Y, X) of a source on its volume."""
    return np.asarray(alone(source).whole().probs)


def _one_window(lattice: Lattice) -> Lattice:
    """Return the lattice whose windows hold the whole volume, or whole slices."""
    core = [
        own if letter == lattice.axis else length
        for letter, own, length in zip("zyx", lattice.core, lattice.shape, strict=True)
    ]
    return lattice.with_core(core)


def _middle(
    volume: Volume, model: TrainedModel, limit: int, axes: str = ""
) -> VolumeField:
    """Return the middle of a volume, of at most `limit` voxels, as the network sees it.

    If `axes` holds one axis, the middle has few slices across it, which are then wide.
    """
    volume = seen_by(volume, model)
    offset, factor = model.intensity.measure(volume)
    shape = list(volume.shape)
    if model.spec.spatial_dims == 2 and len(axes) == 1:
        across = axis_index(axes)
        shape[across] = min(shape[across], SLICES + 2 * model.spec.context)
    while math.prod(shape) > limit:
        longest = shape.index(max(shape))
        shape[longest] = math.ceil(shape[longest] * 0.9)
    start = [(a - b) // 2 for a, b in zip(volume.shape, shape, strict=True)]
    part = volume.with_array(volume.read(Roi.at(start, shape)))
    return VolumeField(part, model.intensity, offset, factor)
