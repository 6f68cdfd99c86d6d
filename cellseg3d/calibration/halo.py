"""Measure what the seams between windows cost, and find the least halo that is good."""

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
from cellseg3d.prediction.setup import sources_of, use_of
from cellseg3d.prediction.sources import Source
from cellseg3d.prediction.trial import prepare_for

# The largest region that is passed through a network in one piece, in voxels.
WHOLE_VOXELS = 160**3
BOUND = 0.02
# Of a network that cuts slices along one axis, this many show the seams.
SLICES = 8


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
        In which both are computed; float32 shows the seams alone.
    acceleration : {"auto", "off"}
        As in `SegmentOptions`.
    axes : str, optional
        Other axes than the bundle's.
    limit : int
        The most voxels that are passed in one piece.

    Returns
    -------
    list of Seams
        One a source.
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
        # Windows that are as wide as the region would show no seams.
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
    """Return the window of a bundle with the least halo that keeps a bound.

    Halos grow by the net's total stride until the largest difference of a
    probability to the whole-volume pass, on all volumes, is at most `bound`. A halo
    with which every window reads the whole volume has not been measured, and is not
    returned.

    Parameters
    ----------
    model : TrainedModel
    volumes : sequence of Volume
        Training volumes; the middle of each is compared.
    bound : float
        In (0, 1].
    most : int
        The largest halo that is tried, in voxels.
    limit : int
        The most voxels of a volume that are passed in one piece.
    seconds : float
        After this time no further halo is tried.
    progress : callable, optional
        Told each measurement.

    Returns
    -------
    dict
        `model.window` with ``halo`` and ``halo_error``; to be stored in the bundle.

    Raises
    ------
    ConfigError
        If there is no volume, no halo keeps the bound, the volumes are too small to
        show, or time is up.
    """
    if not volumes:
        raise ConfigError("calibrating a halo needs at least one training volume")
    begun = time.monotonic()
    window = WindowSettings.parse(model.window, model.spec)
    step = max(geometry_of(model.network).stride)
    fields = [_middle(volume, model, limit, window.axes) for volume in volumes]
    options = SegmentOptions(device="cpu", precision="float32")
    network = prepare_for(fields[0], model.network, model.spec, window.axes, options)
    dims = model.spec.spatial_dims
    longest = max(max(field.shape) for field in fields)
    # Small cores make many seams: what holds for them holds for larger ones.
    core = [max(2 * step, min(32, longest // 3))] * dims
    whole: dict[tuple[int, str], np.ndarray] = {}
    found, halo = math.inf, -step
    for halo in range(0, most + 1, step):
        tried = {**model.window, "core": core, "halo": [halo] * dims}
        use = use_of(replace(model, window=tried), network, options)
        pairs = [(n, s) for n, field in enumerate(fields) for s in use.sources(field)]
        if not any(_has_seams(source.lattice) for _, source in pairs):
            message = (
                f"{model.name}: volumes of {longest} voxels or less do not show what "
                f"a halo of {halo} costs; give larger ones"
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
        f"{bound} (it is {found:.3f}); allow a wider one, more time or another bound"
    )
    raise ConfigError(message)


def _compare(source: Source, expected: np.ndarray | None = None) -> Seams:
    """Return how far a source differs from the same without seams."""
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
    """Return probabilities of one pass over the whole volume, or slice."""
    use = replace(source.use, sees_window=False)
    return _probs(replace(source, use=use, lattice=_one_window(source.lattice)))


def _has_seams(lattice: Lattice) -> bool:
    """Whether some window does not see the whole volume, or slice."""
    return any(
        read < side
        for tile in lattice.windows()
        for letter, read, side in zip(
            "zyx", tile.read.shape, lattice.padded, strict=True
        )
        if letter != lattice.axis
    )


def _probs(source: Source) -> np.ndarray:
    """Return the probabilities (K, Z, Y, X) of a source on its whole volume."""
    return np.asarray(alone(source).whole().probs)


def _one_window(lattice: Lattice) -> Lattice:
    """Return the lattice whose windows reach over the whole volume, or slice."""
    core = [
        own if letter == lattice.axis else length
        for letter, own, length in zip("zyx", lattice.core, lattice.shape, strict=True)
    ]
    return lattice.with_core(core)


def _middle(
    volume: Volume, model: TrainedModel, limit: int, axes: str = ""
) -> VolumeField:
    """Return the middle of a volume as the network sees it, at most `limit` voxels.

    Where slices are cut along the one axis of `axes`, few of them, but wide.
    """
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
