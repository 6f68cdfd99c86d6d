"""The lattice of windows on which a network predicts a volume."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cellseg3d.core.axes import AXES, axis_index
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.grid import Tile, tiles
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.words import refuse_unknown
from cellseg3d.models.prepared import PLANES

# The most voxels that a window writes along an axis. In 3D a window of this core takes
# about 200 MiB in a narrow U-Net; in 2D the slices of a usual tomogram fit whole.
CORE_3D = 112
CORE_2D = 512
# The most planes that a window writes if it runs some planes at a time.
CORE_LONG = 448
# The sides of such cores are multiples of this number, so that a file's chunks can
# divide them.
GRAIN = 32
# Slices that are read at once, because neighbours share the slices of their context.
RUN = 16
# The same on a GPU, which is fast only if many slices run together.
LONG_RUN = 64
# About how many pixels run together in 2D, where the bundle sets no batch: their
# features take as much memory as those of a 3D window of CORE_3D.
PIXELS = 5 * 2**17
# The halo of bundles that were not calibrated: trained networks depend very little on
# voxels farther away (see docs/prediction.md).
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
    """The settings of a bundle's windows; each has a default.

    Parameters
    ----------
    core : tuple of int or None
        The most voxels that a window writes: (z, y, x) in 3D, (h, w) in 2D. When None,
        the core is as large as a few hundred MiB of memory allow.
    halo : tuple of int
        Voxels that are read around a core, in the same order.
    axes : str
        Axes across which slices are cut, such as ``"zyx"``. A 3D network ignores it.
    batch : int or None
        Slices that run together. When None, they hold about `PIXELS` pixels. The
        windows of a 3D network run one by one.
    halo_error : float or None
        The largest difference to the probabilities of one pass over the whole volume
        that was measured with this halo; None when it was not measured.
    empty_below : float or None
        A window whose scaled intensities all lie below this number is background.
    fusion : mapping or None
        Learned weights: one number for each class, for each axis (``"3d"`` in 3D).
    fusion_gain : float or None
        The measured gain in mean Dice of the learned weights over equal ones.
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
        """Return the settings that a bundle's mapping gives, with the defaults.

        Raises
        ------
        ConfigError
            If a key is unknown or a number is out of range.
        """
        refuse_unknown(values, sorted(KEYS), "window")
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
    """The windows of one network on one volume.

    Cores and halos are multiples of the network's total stride, so that all windows lie
    alike on its grid of coarse features. A window ends where the volume ends, grown to
    the next multiple of the stride, so that the network pads with its own zeros at the
    same voxels as in one pass over the whole volume.

    Parameters
    ----------
    shape : tuple of int
        Shape of the volume (Z, Y, X), in voxels.
    core, halo : tuple of int
        Voxels that a window writes, and that it reads around them (z, y, x).
    stride : tuple of int
        The network's total stride (z, y, x); 1 across slices.
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
        """Yield the windows that write into a chunk; all windows when it is None.

        Windows are whole even where they reach past the chunk, so the answer for a
        voxel does not depend on the chunk.
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

    The core of the settings is the largest one; it is lowered so that all windows along
    an axis are of one size. If the settings have none, windows that run some planes at
    a time are long along z and as wide as `pixels` allows, because fewer windows
    compute fewer voxels twice in their halos.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume (Z, Y, X), in voxels.
    spec : InputSpec
    stride : sequence of int
        The network's total stride, one number for each spatial dimension.
    window : WindowSettings
    axis : str, optional
        The axis across which slices are cut; that of the spec by default. A 3D network
        ignores it.
    pixels : int, optional
        The most pixels of a plane of a 3D window that runs some planes at a time; None
        if windows run whole.
    voxels : int, optional
        The most voxels of a window that is held whole, where there is room for larger
        ones than usual. For a 2D or 2.5D network, the most pixels of a batch.
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

    For a 2D or 2.5D network they are the slices of a batch; a 3D network whose windows
    run whole has no choice.
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
    """Return the widest cores (y, x) whose windows have at most `pixels` per plane.

    With three sides, the widest cores (z, y, x) whose windows have at most `pixels`
    voxels. Cores are not made smaller than `CORE_3D`, because most of a window would
    then be halo.
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
    """Return the core that covers `side` with the fewest windows, all of one size.

    The core is a multiple of `step`, and at most `most` rounded up to such a multiple.
    """
    count = math.ceil(side / _up(most, step))
    return _up(math.ceil(side / count), step)


def check_axes(axes: str) -> str:
    """Return axis letters without commas and spaces, in lower case.

    Raises
    ------
    ConfigError
        If a letter is not z, y or x, or is given twice.
    """
    letters = axes.lower().replace(",", "").replace(" ", "")
    if not letters or set(letters) - set(AXES) or len(set(letters)) != len(letters):
        message = (
            f"`axes` is {axes!r}; expected some of the letters z, y and x, each once, "
            "such as 'zyx'"
        )
        raise ConfigError(message)
    return letters


def _sides(value: Sequence[int] | int, dims: int) -> tuple[int, ...]:
    sides = (value,) * dims if isinstance(value, int) else tuple(map(int, value))
    if len(sides) != dims:
        message = f"window: {list(sides)} has {len(sides)} numbers; expected {dims}"
        raise ConfigError(message)
    return sides


def _read(core: int, halo: int, length: int) -> int:
    """Return the longest side of a window; no halo is read past a border."""
    neighbours = min(2, math.ceil(length / core) - 1)
    return min(core + neighbours * halo, length)


def _up(value: int, step: int) -> int:
    return -(-int(value) // int(step)) * int(step)
