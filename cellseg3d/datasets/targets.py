"""Make the target that a network learns: the label's classes, or parts of objects.

To separate touching objects, a network can learn the border and the core of each
object, or the links between neighbouring voxels of one object. Both are classes, so
such networks are trained and used like any other. `cellseg3d.objects.label` turns these
classes into objects.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.extras import missing_extra
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.words import refuse_unknown

TargetKind = Literal["classes", "border-core", "affinity", "long-affinity"]
KINDS: tuple[str, ...] = get_args(TargetKind)
CORE, BORDER = 1, 2
BORDER_CORE = ("background", "core", "border")
# The class index is 4 z + 2 y + x, where z, y and x are 1 if the voxel and its lower
# neighbour along that axis belong to the same object.
LINKS = (
    "link_none",
    "link_x",
    "link_y",
    "link_yx",
    "link_z",
    "link_zx",
    "link_zy",
    "link_zyx",
)
# The distance of the far neighbour of a long link, in voxels.
REACH = 5
# The class index is 9 z + 3 y + x. A digit is 0 if the voxel and its lower neighbour
# along that axis belong to different objects, 1 if to the same one, and 2 if the voxel
# `REACH` below belongs to it, too.
LONG_LINKS = tuple(f"links_{z}{y}{x}" for z, y, x in product(range(3), repeat=3))
# Augmentation holds ids as float32, which is exact for whole numbers up to 2^24.
MOST_OBJECTS = 2**24 - 2


@dataclass(frozen=True)
class LabelTarget:
    """The kind of target that a network learns, made from a label.

    Parameters
    ----------
    kind : {"classes", "border-core", "affinity", "long-affinity"}
        The label's own classes; the border and the core of each object; the links
        of each voxel to its lower neighbours along z, y and x; or these links and those
        to the voxels `REACH` below.
    border_um : float
        Thickness of a border in um, or in voxels when the spacing is unknown. The
        outermost layer of voxels of an object is always border.

    Raises
    ------
    ConfigError
        If the kind is unknown or the border negative.
    """

    kind: str = "classes"
    border_um: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            message = f"target {self.kind!r}; expected one of {', '.join(KINDS)}"
            raise ConfigError(message)
        if not self.border_um >= 0:
            message = f"target border_um is {self.border_um}; expected 0 or more"
            raise ConfigError(message)

    @classmethod
    def parse(cls, values: "LabelTarget | Mapping[str, Any] | None") -> "LabelTarget":
        """Return a target from a config's mapping; a target is returned unchanged."""
        if values is None or isinstance(values, LabelTarget):
            return values or cls()
        refuse_unknown(values, ("kind", "border_um"), "target")
        return cls(**values)

    @property
    def of_objects(self) -> bool:
        """Whether the target is made from object ids, not from classes."""
        return self.kind != "classes"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the target's classes; empty for the label's own classes."""
        known = {
            "border-core": BORDER_CORE,
            "affinity": LINKS,
            "long-affinity": LONG_LINKS,
        }
        return known.get(self.kind, ())

    @property
    def has_direction(self) -> bool:
        """Whether the target must be computed again when a label is flipped."""
        return self.kind in ("affinity", "long-affinity")

    def label_of(self, ids: NDArray[Any], spacing: Spacing | None) -> NDArray[np.uint8]:
        """Return the target of object ids, as class indices of shape (Z, Y, X)."""
        if self.kind == "border-core":
            return border_core_target(ids, self.border_um, spacing)
        return link_classes(ids, far=self.kind == "long-affinity")


def decoder_for(classes: tuple[str, ...]) -> str:
    """Return the method of `objects.label` that fits a network's classes."""
    known = {BORDER_CORE: "border-core", LINKS: "affinity", LONG_LINKS: "affinity"}
    return known.get(tuple(classes), "watershed")


def object_ids(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return object ids renumbered 1, 2, 3, ... without 255 ("not annotated").

    Parameters
    ----------
    values : ndarray of integers, any shape
        0 is background, and every other value is an object.
    name : str
        The file's name, for messages.

    Returns
    -------
    ndarray of the smallest unsigned dtype that holds the ids, same shape

    Raises
    ------
    LabelError
        If an id is negative, or if there are more than 2^24 - 2 objects.
    """
    found, inverse = np.unique(values, return_inverse=True)
    if found.size and found[0] < 0:
        message = f"{name}: the least object id is {found[0]}; expected 0 or more"
        raise LabelError(message)
    if found.size > MOST_OBJECTS:
        message = f"{name}: {found.size} objects; expected at most {MOST_OBJECTS}"
        raise LabelError(message)
    counted = np.cumsum(found > 0)
    counted += counted >= IGNORE
    dtype = np.min_scalar_type(int(counted.max(initial=0)))
    return counted.astype(dtype)[inverse].reshape(values.shape)


def border_core_target(
    objects: NDArray[Any], border_um: float, spacing: Spacing | None = None
) -> NDArray[np.uint8]:
    """Return background 0, core 1 and border 2 of each object [1]_.

    Parameters
    ----------
    objects : ndarray of unsigned integers, shape (Z, Y, X)
        Object ids, 0 background.
    border_um : float
        Voxels no farther than this from another object or the background are border,
        in um, or in voxels when the spacing is unknown. The outermost layer of voxels
        is always border. If an object is too thin for a core, its innermost voxels are
        the core.

    Returns
    -------
    ndarray of uint8, shape (Z, Y, X)

    Raises
    ------
    EnvironmentFault
        If the extra ``objects`` is not installed.

    References
    ----------
    .. [1] Caicedo et al. 2019, Cytometry A 95:952, doi:10.1002/cyto.a.23863
    """
    try:
        import edt  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise missing_extra("a border-core target needs edt", "objects") from error

    edges = (1.0, 1.0, 1.0) if spacing is None else spacing.zyx
    ids = np.ascontiguousarray(objects, np.uint32)
    distance = edt.edt(ids, anisotropy=edges, black_border=False, parallel=1)
    # The distance is measured to the centre of the nearest voxel outside of the object.
    core = (distance > border_um * (1 + 1e-6)) & ~_outermost(ids)
    deepest = np.zeros(int(ids.max(initial=0)) + 1, np.float32)
    np.maximum.at(deepest, ids.ravel(), distance.ravel())
    deepest[ids[core]] = np.inf  # These have a core.
    core |= distance >= deepest[ids]
    target = np.where(core, np.uint8(CORE), np.uint8(BORDER))
    target[ids == 0] = 0
    return target


def affinity_target(objects: NDArray[Any]) -> NDArray[np.uint8]:
    """Return whether each voxel and its lower neighbour belong to the same object.

    Parameters
    ----------
    objects : ndarray of unsigned integers, shape (Z, Y, X)
        Object ids, 0 background.

    Returns
    -------
    ndarray of uint8, shape (3, Z, Y, X)
        1 where they do, for the neighbours along z, y and x; else 0. The first layer
        along each axis has no lower neighbour and is 0.
    """
    links = np.zeros((objects.ndim, *objects.shape), np.uint8)
    for axis in range(objects.ndim):
        lower, upper = _pairs(objects, axis)
        _pairs(links[axis], axis)[1][:] = (lower == upper) & (upper > 0)
    return links


def link_classes(ids: NDArray[Any], *, far: bool = False) -> NDArray[np.uint8]:
    """Return which links to lower neighbours each voxel has, as class indices.

    Parameters
    ----------
    ids : ndarray of any numeric dtype, shape (Z, Y, X) or (Y, X)
        Object ids, whole numbers; 0 is background and 255 means "not annotated".
    far : bool
        Whether the classes are `LONG_LINKS` and not `LINKS`.

    Returns
    -------
    ndarray of uint8, same shape
        Indices of the classes. 255 where a voxel or one of its lower neighbours is not
        annotated, and in the first layer along each axis longer than 1, because its
        lower neighbours are not known. With `far` also where a voxel is linked to its
        lower neighbour, but the voxel `REACH` below is not annotated or not known.
    """
    classes = np.zeros(ids.shape, np.uint8)
    unseen = ids == IGNORE
    for axis, near in enumerate(affinity_target(ids)):
        digit = near
        if ids.shape[axis] > 1:
            unseen |= _below(ids, axis, 1)[1]
        if far:
            same, unknown = _below(ids, axis, REACH)
            digit = near + (near & same)
            unseen |= (near > 0) & unknown
        classes = classes * np.uint8(3 if far else 2) + digit
    classes[unseen] = IGNORE
    return classes


def link_probs(probs_kzyx: NDArray[Any]) -> NDArray[Any]:
    """Return the probability of a link to the lower neighbour along each axis.

    Parameters
    ----------
    probs_kzyx : ndarray of float, shape (8, z, y, x) or (27, z, y, x)
        Probabilities of the classes `LINKS` or `LONG_LINKS`, in [0, 1].

    Returns
    -------
    ndarray of float, shape (3, z, y, x)
        Probabilities of a link along z, y and x, in [0, 1].
    """
    links: NDArray[Any] = _digit_probs(probs_kzyx)[:, 1:].sum(axis=1)
    return links


def _digit_probs(probs_kzyx: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities of each digit of the class index, (3, digits, z, y, x)."""
    base = 3 if len(probs_kzyx) == len(LONG_LINKS) else 2
    table = probs_kzyx.reshape((base,) * 3 + probs_kzyx.shape[1:])
    others = ((1, 2), (0, 2), (0, 1))
    digits: NDArray[Any] = np.stack([table.sum(axis=pair) for pair in others])
    return digits


def _below(
    ids: NDArray[Any], axis: int, step: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return where the voxel `step` below has the same id, and where it is unknown."""
    same = np.zeros(ids.shape, np.uint8)
    unknown = np.ones(ids.shape, np.bool_)
    along = np.moveaxis(ids, axis, 0)
    np.moveaxis(same, axis, 0)[step:] = along[:-step] == along[step:]
    np.moveaxis(unknown, axis, 0)[step:] = along[:-step] == IGNORE
    return same, unknown


def _outermost(ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return which voxels share a face with another object or the background."""
    touching = np.zeros(ids.shape, np.bool_)
    for axis in range(ids.ndim):
        lower, upper = _pairs(ids, axis)
        apart = lower != upper
        for side in _pairs(touching, axis):
            np.logical_or(side, apart, out=side)
    return touching


def _pairs(array: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two views: all voxels with an upper neighbour, and these neighbours."""
    along = np.moveaxis(array, axis, 0)
    return (
        np.moveaxis(along[:-1], 0, axis),
        np.moveaxis(along[1:], 0, axis),
    )
