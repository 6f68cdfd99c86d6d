"""Choose kernels and strides of each level of a network from spacing and patch."""

from collections.abc import Sequence
from dataclasses import dataclass

from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing

# A level with fewer voxels per side holds too little to normalise or to learn from.
_LEAST_SIDE = 4
# nnU-Net's rule: axes whose spacings differ by less than this are treated alike.
_AGREE = 2.0


@dataclass(frozen=True)
class Ladder:
    """Kernels and strides of each level of an encoder, from full resolution down.

    Parameters
    ----------
    kernels : tuple of tuple of int
        Kernel of each level's convolutions, one number per spatial dimension.
    strides : tuple of tuple of int
        Down-sampling at the entry of each level; all 1 for the first level.
    """

    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]

    @property
    def total_stride(self) -> tuple[int, ...]:
        """Voxels of the input per voxel of the lowest level, for each dimension."""
        total = [1] * len(self.strides[0])
        for stride in self.strides:
            total = [a * b for a, b in zip(total, stride, strict=True)]
        return tuple(total)


def spacing_ratios(
    spec: InputSpec, spacing_um: Sequence[float] | Spacing | None
) -> tuple[float, ...]:
    """Return the spacing along each spatial dimension of a network's input.

    Parameters
    ----------
    spec : InputSpec
        For slices, the spacing of the two axes within the slice is returned.
    spacing_um : three floats (z, y, x), Spacing or None
        Voxel edges in um; with None all axes count as equal.
    """
    if spacing_um is None:
        return (1.0,) * spec.spatial_dims
    if not isinstance(spacing_um, Spacing):
        spacing_um = Spacing.of(spacing_um)
    lengths = list(spacing_um.zyx)
    if spec.spatial_dims == 2:
        del lengths[axis_index(spec.axis)]
    return tuple(lengths)


def build_ladder(
    spec: InputSpec,
    spacing_um: Sequence[float] | Spacing | None = None,
    levels: int | None = None,
    most: int = 5,
) -> Ladder:
    """Return kernels and strides by the rule of nnU-Net [1]_.

    An axis much coarser than the finest one is neither down-sampled nor convolved
    across until the others have been down-sampled to within a factor of 2 of it.

    Parameters
    ----------
    spec : InputSpec
        The network's input; its patch limits the number of levels.
    spacing_um : three floats (z, y, x), Spacing or None
        Voxel edges in um; only their ratios matter.
    levels : int, optional
        Number of levels; by default as many as the patch allows.
    most : int
        Upper limit of the default number of levels.

    Raises
    ------
    ConfigError
        If fewer than two levels are asked for.

    References
    ----------
    .. [1] Isensee et al. 2021, Nat. Methods 18:203, doi:10.1038/s41592-020-01008-z
    """
    if levels is not None and levels < 2:
        message = (
            f"a network of {levels} level(s) is no U-Net; give at least 2 channels"
        )
        raise ConfigError(message)
    lengths = spacing_ratios(spec, spacing_um)
    sides: tuple[float, ...] = spec.patch_shape
    kernels = [_kernel(lengths, (1,) * spec.spatial_dims)]
    strides: list[tuple[int, ...]] = [(1,) * spec.spatial_dims]
    while len(strides) < (levels or most):
        stride = _stride(lengths, sides, forced=levels is not None or len(strides) < 2)
        if max(stride) == 1:
            break
        lengths = tuple(a * b for a, b in zip(lengths, stride, strict=True))
        sides = tuple(a / b for a, b in zip(sides, stride, strict=True))
        strides.append(stride)
        kernels.append(_kernel(lengths, kernels[-1]))
    return Ladder(tuple(kernels), tuple(strides))


def _kernel(lengths: Sequence[float], above: Sequence[int]) -> tuple[int, ...]:
    """Return 3 along axes whose spacing agrees, and at every level below; else 1."""
    finest = min(lengths)
    return tuple(
        3 if size == 3 or length / finest < _AGREE else 1
        for length, size in zip(lengths, above, strict=True)
    )


def _stride(
    lengths: Sequence[float], sides: Sequence[float], *, forced: bool
) -> tuple[int, ...]:
    """Return 2 along axes that are long enough and among the finest; otherwise 1."""
    roomy = [side / 2 >= _LEAST_SIDE for side in sides]
    if not any(roomy):
        if not forced:
            return (1,) * len(sides)
        roomy = [True] * len(sides)
    finest = min(length for length, room in zip(lengths, roomy, strict=True) if room)
    return tuple(
        2 if room and length / finest < _AGREE else 1
        for length, room in zip(lengths, roomy, strict=True)
    )
