"""The weight of each source of a bundle for each class when sources are fused."""

from collections.abc import Sequence

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.models.fused_networks import DEEP, learned_rows
from cellseg3d.prediction.fusion import Fusion, anisotropy_prior
from cellseg3d.prediction.sources import Source

Row = tuple[float, ...]


def source_key(source: Source) -> str:
    """Return the key of a source in a window's ``fusion``: its axis, or ``"3d"``."""
    return source.lattice.axis or DEEP


def bundle_weights(
    sources: Sequence[Source], fuse: str, spacing: Spacing | None
) -> list[Row]:
    """Return the weights of one bundle's sources, one row for each source.

    The learned weights of a class are scaled so that they sum to the number of sources
    with a weight above 0. So bundles with and without learned weights can be fused.

    Parameters
    ----------
    sources : sequence of Source
        All sources of the bundle.
    fuse : str
        ``"weighted"`` takes weights from the voxel's shape, and ``"learned"`` those
        that the windows hold. ``"auto"`` takes learned weights if there are any, and
        else those of the voxel's shape. With any other word all sources count alike.
    spacing : Spacing or None
        The volume's voxel edges, in um.

    Raises
    ------
    ConfigError
        If learned weights are asked for and the bundle has none, or all are zero.
    """
    if fuse not in ("auto", "learned", "weighted"):
        return [(1.0,) * source.classes for source in sources]
    prior = [_prior(source, spacing) for source in sources]
    if fuse == "weighted":
        return prior
    name, classes = sources[0].name, sources[0].classes
    held = [(source.use.window.fusion, source_key(source)) for source in sources]
    rows = learned_rows(held, classes)
    if rows is None:
        if fuse == "auto":
            return prior
        message = (
            f"{name}: its bundle holds no learned weights; fit them with `cellseg3d "
            "train --fit-axes zyx` or `cellseg3d bundle combine`, or set `fuse` to mean"
        )
        raise ConfigError(message)
    totals = [sum(column) for column in zip(*rows, strict=True)]
    if min(totals) <= 0:
        message = (
            f"{name}: the learned weights leave out every source along "
            f"{', '.join(key for _, key in held)}; give other `axes`, or set `fuse` to "
            "mean"
        )
        raise ConfigError(message)
    used = sum(max(row) > 0 for row in rows)
    return [
        tuple(weight * used / total for weight, total in zip(row, totals, strict=True))
        for row in rows
    ]


def fusion_of(fuse: str, rows: Sequence[Row]) -> Fusion:
    """Return how sources are fused, with the weights of those that are used.

    Parameters
    ----------
    fuse : str
        A mode of `Fusion`, ``"learned"`` or ``"auto"``.
    rows : sequence of tuple of float
        What `bundle_weights` returned for each source that is used.
    """
    if fuse in ("auto", "learned", "weighted"):
        same = all(weight == rows[0][0] for row in rows for weight in row)
        return Fusion("mean") if same else Fusion("weighted", tuple(rows))
    return Fusion(fuse)


def _prior(source: Source, spacing: Spacing | None) -> Row:
    axis = source.lattice.axis
    weight = (1.0,) if axis is None else anisotropy_prior(axis, spacing)
    return weight * source.classes
