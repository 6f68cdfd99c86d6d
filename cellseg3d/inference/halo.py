"""Measure what the seams between windows cost, and find the least halo that is good."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.volume import Volume
from cellseg3d.inference.engine import Engine, prepare
from cellseg3d.inference.field import VolumeField
from cellseg3d.inference.fusion import probs_of
from cellseg3d.inference.geometry import geometry_of
from cellseg3d.inference.lattice import Lattice, WindowPlan
from cellseg3d.inference.predictor import TrainedModel
from cellseg3d.inference.sources import NetworkUse, Source

# The largest region that is passed through a network in one piece, in voxels.
WHOLE_VOXELS = 160**3
BOUND = 0.02


@dataclass(frozen=True)
class Seams:
    """How far windows differ from one pass over the whole region.

    Parameters
    ----------
    source : str
        Network and axis.
    halo : int
        Voxels; the largest of the axes.
    difference : float
        Largest difference of a probability.
    place_zyx : tuple of int
        Where it lies in the volume.
    changed : float
        Part of the voxels whose label differs.
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
    axes: str | None = None,
    limit: int = WHOLE_VOXELS,
) -> list[Seams]:
    """Compare windows with one pass over the middle of a volume.

    Parameters
    ----------
    volume : Volume
    model : TrainedModel
    precision : str
        In which both are computed; float32 shows the seams alone.
    axes : str, optional
        Other axes than the bundle's.
    limit : int
        The most voxels that are passed in one piece.

    Returns
    -------
    list of Seams
        One a source.
    """
    window = WindowPlan.parse(model.window, model.spec)
    window = replace(window, axes=axes or window.axes)
    use = _use(model, window, prepare(model.network, "cpu", precision))
    return [_compare(source) for source in use.sources(_middle(volume, model, limit))]


def calibrate_halo(
    model: TrainedModel,
    volumes: Sequence[Volume],
    bound: float = BOUND,
    *,
    most: int = 96,
    progress: Callable[[Seams], None] | None = None,
) -> dict[str, object]:
    """Return the window of a bundle with the least halo that keeps a bound.

    Halos grow by the net's total stride until the largest difference of a
    probability to the whole-volume pass, on all volumes, is at most `bound`.

    Parameters
    ----------
    model : TrainedModel
    volumes : sequence of Volume
        Training volumes; larger than a window, else there are no seams to measure.
    bound : float
        In (0, 1].
    most : int
        The largest halo that is tried, in voxels.
    progress : callable, optional
        Told each measurement.

    Returns
    -------
    dict
        `model.window` with ``halo`` and ``halo_error``; to be stored in the bundle.

    Raises
    ------
    ConfigError
        If there is no volume, or no halo keeps the bound.
    """
    if not volumes:
        raise ConfigError("calibrating a halo needs at least one training volume")
    window = WindowPlan.parse(model.window, model.spec)
    step = max(geometry_of(model.network).stride)
    engine = prepare(model.network, "cpu", "float32")
    fields = [_middle(volume, model, WHOLE_VOXELS) for volume in volumes]
    dims = model.spec.spatial_dims
    # Small cores make many seams: what holds for them holds for larger ones.
    core = (max(2 * step, 32),) * dims
    found = math.inf
    for halo in range(0, most + 1, step):
        tried = replace(window, core=core, halo=(halo,) * dims)
        use = _use(model, tried, engine)
        found = 0.0
        for field in fields:
            for source in use.sources(field):
                seams = _compare(source)
                found = max(found, seams.difference)
                if progress is not None:
                    progress(seams)
        if found <= bound:
            return {**model.window, "halo": [halo] * dims, "halo_error": found}
    message = (
        f"{model.name}: no halo up to {most} voxels keeps the difference below "
        f"{bound} (it is {found:.3f}); allow a wider one, or another bound"
    )
    raise ConfigError(message)


def _use(model: TrainedModel, window: WindowPlan, engine: Engine) -> NetworkUse:
    geometry = geometry_of(model.network)
    return NetworkUse(
        model.name,
        engine,
        model.spec,
        window,
        geometry.stride,
        len(model.classes),
        geometry.sees_window,
    )


def _compare(source: Source) -> Seams:
    """Return how far a source differs from the same without seams."""
    whole = Roi.whole(source.shape)
    seamless = replace(source, lattice=_one_window(source.lattice), blended=False)
    found = _probs(source, whole)
    expected = _probs(seamless, whole)
    apart = np.abs(found - expected).max(axis=0)
    place = zyx([int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape)])
    changed = float((found.argmax(0) != expected.argmax(0)).mean())
    halo = [
        n
        for axis, n in zip("zyx", source.lattice.halo, strict=True)
        if axis != source.lattice.axis
    ]
    return Seams(source.name, max(halo), float(apart.max()), place, changed)


def _probs(source: Source, whole: Roi) -> np.ndarray:
    answer = np.empty((source.classes, *whole.shape), np.float32)
    for roi, logits in source.logits(whole):
        answer[(slice(None), *roi.slices)] = probs_of(logits).numpy()
    return answer


def _one_window(lattice: Lattice) -> Lattice:
    """Return the lattice whose windows reach over the whole volume, or slice."""
    core = [
        own if letter == lattice.axis else length
        for letter, own, length in zip("zyx", lattice.core, lattice.shape, strict=True)
    ]
    return lattice.with_core(core)


def _middle(volume: Volume, model: TrainedModel, limit: int) -> VolumeField:
    """Return the middle of a volume as the network sees it, at most `limit` voxels."""
    offset, factor = model.intensity.measure(volume)
    shape = list(volume.shape)
    while math.prod(shape) > limit:
        longest = shape.index(max(shape))
        shape[longest] = math.ceil(shape[longest] * 0.9)
    start = [(a - b) // 2 for a, b in zip(volume.shape, shape, strict=True)]
    part = volume.with_array(volume.read(Roi.at(start, shape)))
    return VolumeField(part, model.intensity, offset, factor)
