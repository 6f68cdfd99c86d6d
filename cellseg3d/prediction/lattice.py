"""The one lattice of windows on which a volume is predicted."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cellseg3d.core.axes import AXES, axis_index
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.grid import Tile, tiles
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.models.prepared import PLANES

# Voxels a window writes along an axis, at most. In 3D a window of this core takes
# about 200 MiB in a narrow U-Net; whole slices of a usual tomogram fit in 2D.
CORE_3D = 112
CORE_2D = 512
# Planes that a window writes which is streamed, some planes at a time.
CORE_LONG = 448
# Sides of such cores are multiples of it, so that chunks of a file can divide them.
GRAIN = 32
# Slices that are read at once: neighbours share the slices of their context.
RUN = 16
# The same where much memory is to be filled, as on a GPU.
LONG_RUN = 64
# Pixels of the slices that run together, about, where the bundle says no number: the
# features of as many are as large as those of a window of CORE_3D.
PIXELS = 5 * 2**17
# Where nobody has calibrated the halo: beyond it, trained nets were seen to look
# very little (see docs/prediction.md).
HALO = 32
KEYS = frozenset(
    {
        "core",
        "halo",
        "axes",
        "batch",
        "halo_error",
        "empty_below",
        "fusion",
        "fusion_gain",
    }
)


@dataclass(frozen=True)
class WindowSettings:
    """What a bundle says of its windows; every number may be left out.

    Parameters
    ----------
    core : tuple of int or None
        Largest number of voxels a window writes, (z, y, x) for 3D, (h, w) for 2D;
        when None, what takes a fair amount of memory.
    halo : tuple of int
        Voxels read around a core, likewise.
    axes : str
        Axes across which slices are cut, such as ``"zyx"``; unused for 3D.
    batch : int or None
        Slices that run together; when None, those of `PIXELS` pixels. Windows of a 3D
        network run one by one.
    halo_error : float or None
        Largest probability difference to the whole-volume pass measured with this
        halo; None when it was not calibrated.
    empty_below : float or None
        Windows whose scaled intensities all lie below are background.
    fusion : mapping or None
        Learned weights: for each axis (``"3d"`` for 3D), one number a class.
    fusion_gain : float or None
        What they were measured to add to the mean Dice of equal weights.
    """

    core: tuple[int, ...] | None
    halo: tuple[int, ...]
    axes: str = "z"
    batch: int | None = None
    halo_error: float | None = None
    empty_below: float | None = None
    fusion: Mapping[str, Sequence[float]] | None = None
    fusion_gain: float | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any], spec: InputSpec) -> "WindowSettings":
        """Return the settings of a bundle's mapping, defaults filled in.

        Raises
        ------
        ConfigError
            If a key is unknown or a number makes no sense.
        """
        unknown = sorted(set(values) - KEYS)
        if unknown:
            message = f"window: unknown key {unknown[0]!r}; known: {sorted(KEYS)}"
            raise ConfigError(message)
        dims = spec.spatial_dims
        core = None if not values.get("core") else _sides(values["core"], dims)
        given = values.get("halo")
        halo = _sides(HALO if given is None else given, dims)
        axes = check_axes("".join(values.get("axes") or spec.axis))
        stated = values.get("batch")
        batch = None if stated is None else int(stated)
        if min(core or [1]) < 1 or min(halo) < 0 or (batch is not None and batch < 1):
            message = (
                f"window: core {list(core or [])}, halo {list(halo)}, batch {batch}; "
                "expected core >= 1, halo >= 0, batch >= 1"
            )
            raise ConfigError(message)
        kept = ("halo_error", "empty_below", "fusion", "fusion_gain")
        numbers = {key: values.get(key) for key in kept}
        return cls(core, halo, axes, batch, **numbers)


@dataclass(frozen=True)
class Lattice:
    """Windows of one network on one volume.

    Cores and halos are multiples of the net's total stride, so every window has the
    same phase. A window ends where the volume ends, padded to the next multiple as
    in a pass over the whole volume, so that the net's own zeros begin there.

    Parameters
    ----------
    shape : tuple of int
        Shape of the volume (Z, Y, X), in voxels.
    core, halo : tuple of int
        Voxels written by a window, and read around them (z, y, x).
    stride : tuple of int
        The net's total stride (z, y, x); 1 across slices.
    axis : str or None
        The axis across which slices are cut; None for 3D.
    """

    shape: Zyx
    core: Zyx
    halo: Zyx
    stride: Zyx
    axis: str | None = None

    @property
    def padded(self) -> Zyx:
        """The volume's shape, grown at its far ends to multiples of the stride."""
        return zyx([_up(a, b) for a, b in zip(self.shape, self.stride, strict=True)])

    @property
    def tiled(self) -> bool:
        """Whether the volume, or a slice, takes more than one window."""
        return any(
            core < side
            for letter, core, side in zip("zyx", self.core, self.shape, strict=True)
            if letter != self.axis
        )

    def windows(self, chunk: Roi | None = None) -> Iterator[Tile]:
        """Yield the windows that write into a chunk, all of them when None.

        Windows are whole even where they pass the chunk: a voxel's arithmetic does
        not depend on the chunk it is asked for in.
        """
        whole = Roi.whole(self.shape) if chunk is None else chunk
        first = [a // c * c for a, c in zip(whole.start, self.core, strict=True)]
        part = Roi(zyx(first), whole.stop)
        for tile in tiles(part.shape, self.core, self.halo):
            write = Roi.at(tile.write.shift(first).start, self.core).clip(self.shape)
            yield Tile(self._clip(tile.read.shift(first)), write)

    @property
    def window(self) -> Zyx:
        """Shape of the largest box that is read at once."""
        return zyx(
            [
                core + 2 * halo if letter == self.axis else _read(core, halo, length)
                for letter, core, halo, length in zip(
                    "zyx", self.core, self.halo, self.padded, strict=True
                )
            ]
        )

    def with_core(self, core: Sequence[int]) -> "Lattice":
        """Return the lattice with other cores, rounded up to the stride."""
        sides = [_up(a, b) for a, b in zip(core, self.stride, strict=True)]
        return replace(self, core=zyx(sides))

    def _clip(self, read: Roi) -> Roi:
        if self.axis is None:
            return read.clip(self.padded)
        across = axis_index(self.axis)
        cut = read.clip(self.padded)
        start, stop = list(cut.start), list(cut.stop)
        start[across] = read.start[across]
        last = self.shape[across] + self.halo[across]
        stop[across] = min(read.stop[across], last)
        return Roi(zyx(start), zyx(stop))


def lattice_of(
    shape: Sequence[int],
    spec: InputSpec,
    stride: Sequence[int],
    window: WindowSettings,
    axis: str | None = None,
    pixels: int | None = None,
    voxels: int | None = None,
) -> Lattice:
    """Return the lattice of a network on a volume.

    The largest core of the settings is lowered so that the windows of an axis are
    alike. Without one, windows that run some planes at a time are long along z, and as
    wide as `pixels` allow: the fewer windows, the less is computed twice in halos.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume (Z, Y, X), in voxels.
    spec : InputSpec
    stride : sequence of int
        The net's total stride, one number a spatial dimension.
    window : WindowSettings
    axis : str, optional
        The axis across which slices are cut; the spec's when None; unused for 3D.
    pixels : int, optional
        The largest plane of a 3D window that is streamed; None where it is not.
    voxels : int, optional
        The largest window that is held whole, where there is room for larger ones than
        the usual; of a 2D or 2.5D network, the pixels of all slices of a batch.
    """
    halo, steps = list(window.halo), list(map(int, stride))
    grains = list(steps)
    if window.core is not None:
        core = list(window.core)
    elif spec.spatial_dims == 3 and pixels is not None:
        grains = [math.lcm(step, GRAIN) for step in steps]
        halos = [_up(side, step) for side, step in zip(halo, steps, strict=True)]
        padded = [_up(side, step) for side, step in zip(shape, steps, strict=True)]
        core = [CORE_LONG, *_widest(padded[1:], halos[1:], grains[1:], pixels)]
    elif spec.spatial_dims == 3 and voxels is not None:
        halos = [_up(side, step) for side, step in zip(halo, steps, strict=True)]
        padded = [_up(side, step) for side, step in zip(shape, steps, strict=True)]
        core = _widest(padded, halos, steps, voxels)
    else:
        core = [CORE_3D if spec.spatial_dims == 3 else CORE_2D] * spec.spatial_dims
    if spec.spatial_dims == 3:
        axis = None
    else:
        axis = axis or spec.axis
        across = axis_index(axis)
        core.insert(across, RUN if voxels is None else LONG_RUN)
        halo.insert(across, spec.context)
        steps.insert(across, 1)
        grains.insert(across, 1)
    fitted = []
    for index, (side, most, grain) in enumerate(zip(shape, core, grains, strict=True)):
        across_slices = axis is not None and index == axis_index(axis)
        fitted.append(min(most, side) if across_slices else fit(side, most, grain))
        halo[index] = _up(halo[index], steps[index])
    return Lattice(zyx(shape), zyx(fitted), zyx(halo), zyx(steps), axis)


def planes_of(
    lattice: Lattice, window: WindowSettings, voxels: int | None = None
) -> int:
    """Return how many planes of a window's answer are computed together.

    Those are slices of a 2D or 2.5D network, of which a batch is made; of a 3D window
    they lie along z.
    """
    if lattice.axis is None:
        return PLANES
    if window.batch is not None and voxels is None:
        return window.batch
    pixels = math.prod(lattice.window) // lattice.window[axis_index(lattice.axis)]
    run, room = (RUN, PIXELS) if voxels is None else (LONG_RUN, voxels)
    most = max(1, min(run, room // pixels))
    # A power of two, so that a run is made of equal batches.
    return 1 << (most.bit_length() - 1)


def _widest(
    sides: Sequence[int], halos: Sequence[int], grains: Sequence[int], pixels: int
) -> list[int]:
    """Return the widest cores (y, x) whose windows' planes have so many pixels.

    Or cores (z, y, x) whose windows have so many voxels.

    But none below `CORE_3D`: what is read around it would be the larger part.
    """
    counts = [1] * len(sides)
    while True:
        cores, windows = [], []
        for side, halo, grain, count in zip(sides, halos, grains, counts, strict=True):
            core = _up(math.ceil(side / count), grain)
            cores.append(core)
            windows.append(_read(core, halo, side))
        longest = windows.index(max(windows))
        if math.prod(windows) <= pixels or cores[longest] <= CORE_3D:
            return cores
        counts[longest] += 1


def fit(side: int, most: int, step: int) -> int:
    """Return the core that covers `side` with few and equal windows.

    As few as `most` allows; a multiple of `step`, at most `most` rounded up to one.
    """
    count = math.ceil(side / _up(most, step))
    return _up(math.ceil(side / count), step)


def check_axes(axes: str) -> str:
    """Return axis letters, each once.

    Raises
    ------
    ConfigError
        If a letter is none of z, y and x, or stands twice.
    """
    letters = axes.lower().replace(",", "").replace(" ", "")
    if not letters or set(letters) - set(AXES) or len(set(letters)) != len(letters):
        message = f"axes {axes!r}; expected some of 'z', 'y', 'x', such as 'zyx'"
        raise ConfigError(message)
    return letters


def _sides(value: Sequence[int] | int, dims: int) -> tuple[int, ...]:
    sides = (value,) * dims if isinstance(value, int) else tuple(map(int, value))
    if len(sides) != dims:
        message = f"window: {list(sides)} has {len(sides)} numbers; expected {dims}"
        raise ConfigError(message)
    return sides


def _read(core: int, halo: int, length: int) -> int:
    """Return the longest side of a window; there is no halo beyond a border."""
    neighbours = min(2, math.ceil(length / core) - 1)
    return min(core + neighbours * halo, length)


def _up(value: int, step: int) -> int:
    return -(-int(value) // int(step)) * int(step)
