"""Options for separating objects: the method and its parameters, in physical units."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.words import refuse_unknown

Method = Literal["components", "watershed", "border-core", "affinity", "mean-size"]
METHODS: tuple[str, ...] = get_args(Method)
DEFAULT_RADIUS_VOXELS = 40.0
SHARES = ("threshold", "neck", "core_threshold", "strong_affinity", "merge_affinity")


@dataclass(frozen=True)
class ObjectOptions:
    """A method that separates objects, and its parameters.

    If the spacing of the volume is unknown, lengths are in voxels instead of um.

    Parameters
    ----------
    method : str
        ``"components"`` joins touching voxels of a class. ``"watershed"`` cuts them
        at necks of the distance transform. ``"border-core"`` grows class 1 (core)
        into class 2 (border). ``"affinity"`` joins voxels along predicted links.
        ``"mean-size"`` cuts a component into parts of about the mean volume.
    threshold : float
        A voxel is foreground if the probabilities of all classes but background add up
        to at least this, in (0, 1].
    connectivity : {6, 18, 26}
        Number of neighbours of a voxel, for ``"components"``.
    min_volume_um3 : float
        A smaller object is joined to the touching object with the widest neck between
        them. If it touches none, it is left out.
    hole_um : float
        Enclosed background no longer than this along any axis is filled; 0 fills none.
    smoothing_um : float
        Standard deviation of a Gaussian that smooths the class probabilities; 0 does
        not smooth.
    depth_um : float, optional
        For ``"watershed"``: two parts stay one object if the distance to the background
        in the middle of the smaller part exceeds that at the neck by no more than this.
        The smallest voxel edge when None.
    neck : float
        For ``"watershed"``: two parts stay one object if the radius of the neck between
        them is at least this fraction of the smaller part's radius, in (0, 1].
    max_radius_um : float, optional
        Largest distance that is measured; parts whose neck has a larger radius stay
        one object. 40 times the smallest voxel edge when None.
    mean_volume_um3 : float, optional
        Mean volume of an object, measured on training data; for ``"mean-size"``.
    core_threshold : float
        For ``"border-core"`` on probabilities: a voxel of an object is core if the
        probability of core, divided by that of core and border together, is at least
        this, in (0, 1].
    strong_affinity, merge_affinity : float
        For ``"affinity"``: first, voxels with a link of at least `strong_affinity` are
        joined; then, regions whose mean link is at least `merge_affinity`.

    Raises
    ------
    ConfigError
        If a value is out of its range, or (in `parse`) a key is unknown.

    Examples
    --------
    >>> from cellseg3d import ObjectOptions
    >>> ObjectOptions("components", min_volume_um3=0.5).min_volume_um3
    0.5
    """

    method: str = "watershed"
    threshold: float = 0.5
    connectivity: Literal[6, 18, 26] = 6
    min_volume_um3: float = 0.0
    hole_um: float = 0.0
    smoothing_um: float = 0.0
    depth_um: float | None = None
    neck: float = 0.75
    max_radius_um: float | None = None
    mean_volume_um3: float | None = None
    core_threshold: float = 0.5
    strong_affinity: float = 0.9
    merge_affinity: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            known = ", ".join(METHODS)
            raise ConfigError(f"method {self.method!r} is unknown; expected {known}")
        if self.connectivity not in (6, 18, 26):
            message = f"connectivity is {self.connectivity}; expected 6, 18 or 26"
            raise ConfigError(message)
        for name in SHARES:
            if not 0 < getattr(self, name) <= 1:
                message = f"{name} is {getattr(self, name)}; expected 0 < {name} <= 1"
                raise ConfigError(message)
        for name in ("min_volume_um3", "hole_um", "smoothing_um", "depth_um"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"{name} is {value}; expected 0 or more")
        for name in ("max_radius_um", "mean_volume_um3"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; expected more than 0")
        if self.method == "mean-size" and self.mean_volume_um3 is None:
            message = (
                "method 'mean-size' needs mean_volume_um3, the mean volume of one "
                "object in the training data"
            )
            raise ConfigError(message)

    @classmethod
    def parse(cls, values: "ObjectOptions | Mapping[str, Any]") -> "ObjectOptions":
        """Return options from a config's mapping; options are returned unchanged."""
        if isinstance(values, ObjectOptions):
            return values
        refuse_unknown(values, [field.name for field in fields(cls)], "object options")
        return cls(**values)

    @classmethod
    def read(cls, path: Path) -> "ObjectOptions":
        """Return the options in a JSON file, also in one that tuning has written.

        Raises
        ------
        ConfigError
            If the file cannot be read, or a key or value is wrong.
        """
        values = read_mapping(path)
        return cls.parsed(values.get("options", values), path)

    @classmethod
    def parsed(cls, values: Any, path: Path) -> "ObjectOptions":  # noqa: ANN401
        """Return options from the content of a file; errors name the file."""
        try:
            return cls.parse(values)
        except (ConfigError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        """Return the options for JSON; `parse` reads them."""
        return asdict(self)


@dataclass(frozen=True)
class LengthScale:
    """Converts lengths to voxels and to steps for one spacing.

    Distances are measured in steps, a fraction of the smallest voxel edge. Voxel edges
    are rounded to whole steps, so squared distances are whole numbers. They are exact
    and therefore equal in every block.
    """

    edges: tuple[float, float, float]
    known: bool
    steps_zyx: tuple[int, int, int]
    step: float
    radius_steps: int

    @classmethod
    def of(cls, spacing: Spacing | None, options: ObjectOptions) -> "LengthScale":
        """Return the scale of a spacing; voxels have edge 1 if it is unknown."""
        edges = (1.0, 1.0, 1.0) if spacing is None else spacing.zyx
        smallest = min(edges)
        radius = options.max_radius_um or DEFAULT_RADIUS_VOXELS * smallest
        # Squares up to 2^24 are exact in float32, in which distances are computed.
        per_edge = max(1, min(128, int(4095 * smallest / radius)))
        z, y, x = (max(1, round(edge / smallest * per_edge)) for edge in edges)
        step = smallest / per_edge
        steps = min(4095, max(per_edge, round(radius / step)))
        return cls(edges, spacing is not None, (z, y, x), step, steps)

    @property
    def unit(self) -> str:
        """The unit of every length: ``"um"``, or ``"voxels"`` without a spacing."""
        return "um" if self.known else "voxels"

    @property
    def voxel_volume(self) -> float:
        """The volume of a voxel in the unit cubed."""
        return self.edges[0] * self.edges[1] * self.edges[2]

    @property
    def radius_voxels(self) -> tuple[int, int, int]:
        """The number of voxels along each axis that covers the largest distance."""
        z, y, x = (-(-self.radius_steps // steps) for steps in self.steps_zyx)
        return (z, y, x)

    def voxels(self, length: float) -> tuple[int, int, int]:
        """Return a length in voxels along each axis, rounded down."""
        z, y, x = (int(length / edge + 1e-9) for edge in self.edges)
        return (z, y, x)
