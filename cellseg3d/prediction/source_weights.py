"""How much each source of a bundle counts for each class."""

from collections.abc import Sequence

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.models.fused_networks import DEEP, learned_rows
from cellseg3d.prediction.fusion import Fusion, anisotropy_prior
from cellseg3d.prediction.sources import Source

Row = tuple[float, ...]


def source_key(source: Source) -> str:
    """Return what a window's ``fusion`` calls a source: its axis, or ``"3d"``."""
    return source.lattice.axis or DEEP


def bundle_weights(
    sources: Sequence[Source], fuse: str, spacing: Spacing | None
) -> list[Row]:
    """Return the weights of one bundle's sources, one row a source.

    Learned weights are scaled so that a bundle counts as much as the sources that it
    uses, for each class; so several bundles can be fused, learned or not.

    Parameters
    ----------
    sources : sequence of Source
        All sources of the bundle.
    fuse : str
        ``"weighted"`` takes the prior of the voxel's shape; ``"learned"`` what the
        windows hold; ``"auto"`` that, or the prior where they hold nothing; else all
        are alike.
    spacing : Spacing or None
        Of the volume.

    Raises
    ------
    ConfigError
        If learned weights are asked for and there are none, or all are zero.
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
            "train --fit-axes zyx` or `cellseg3d bundle fuse`, or pass --fuse mean"
        )
        raise ConfigError(message)
    totals = [sum(column) for column in zip(*rows, strict=True)]
    if min(totals) <= 0:
        message = (
            f"{name}: the learned weights leave out every source along "
            f"{', '.join(key for _, key in held)}; take other --axes, or --fuse mean"
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
        What `bundle_weights` returned, one row a source that is used.
    """
    if fuse in ("auto", "learned", "weighted"):
        same = all(weight == rows[0][0] for row in rows for weight in row)
        return Fusion("mean") if same else Fusion("weighted", tuple(rows))
    return Fusion(fuse)


def _prior(source: Source, spacing: Spacing | None) -> Row:
    axis = source.lattice.axis
    weight = (1.0,) if axis is None else anisotropy_prior(axis, spacing)
    return weight * source.classes
