"""The edge lengths of a voxel, in micrometres, in the order (z, y, x)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cellseg3d.core.errors import SpacingError

UM_PER = {
    "pm": 1e-6,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25_400.0,
}
_ALIASES = {
    "a": "angstrom",
    "\u00c5": "angstrom",
    "\u212b": "angstrom",
    "picometer": "pm",
    "nanometer": "nm",
    "nanometers": "nm",
    "nanometre": "nm",
    "\u00b5m": "um",
    "\u03bcm": "um",
    "\\u00b5m": "um",
    "\\u00B5m": "um",
    "micron": "um",
    "microns": "um",
    "micrometer": "um",
    "micrometers": "um",
    "micrometre": "um",
    "millimeter": "mm",
    "millimetre": "mm",
    "centimeter": "cm",
    "meter": "m",
    "in": "inch",
}


# Volumes of other edges are too small or too large to be computed with.
LEAST_UM, MOST_UM = 1e-15, 1e15


@dataclass(frozen=True, slots=True)
class Spacing:
    """The edge lengths of a voxel.

    Parameters
    ----------
    z, y, x : float
        Edge lengths in um, finite and greater than 0.

    Raises
    ------
    SpacingError
        If a length is not a positive number from 1e-15 to 1e15 um.

    Examples
    --------
    >>> from cellseg3d import Spacing
    >>> Spacing.of((50, 10, 10), "nm")
    Spacing(z=0.05, y=0.01, x=0.01)
    """

    z: float
    y: float
    x: float

    def __post_init__(self) -> None:
        for letter, length in zip("zyx", self.zyx, strict=True):
            if not (math.isfinite(length) and length > 0):
                message = (
                    f"spacing along {letter} is {length} um; expected a positive number"
                )
                raise SpacingError(message)
            if not LEAST_UM <= length <= MOST_UM:
                message = (
                    f"spacing along {letter} is {length:g} um; expected a length from "
                    f"{LEAST_UM:g} to {MOST_UM:g}"
                )
                raise SpacingError(message)

    @classmethod
    def of(cls, lengths: Sequence[float], unit: str = "um") -> "Spacing":
        """Return a spacing from (z, y, x) lengths in a named unit.

        Parameters
        ----------
        lengths : sequence of float
            Three edge lengths (z, y, x).
        unit : str
            Unit of the lengths: ``"angstrom"``, ``"nm"``, ``"um"``, ``"mm"``, ``"cm"``,
            ``"m"`` or another usual spelling of one of them.

        Raises
        ------
        SpacingError
            If there are not three lengths, the unit is unknown or a length is not
            positive.
        """
        factor = UM_PER[unit_name(unit)]
        try:
            z, y, x = (float(length) * factor for length in lengths)
        except (TypeError, ValueError, OverflowError) as error:
            message = f"spacing needs three lengths (z, y, x), found {lengths!r:.100}"
            raise SpacingError(message) from error
        return cls(z, y, x)

    @property
    def zyx(self) -> tuple[float, float, float]:
        """The edge lengths (z, y, x) in um."""
        return (self.z, self.y, self.x)

    @property
    def voxel_volume_um3(self) -> float:
        """The volume of one voxel in um^3."""
        return self.z * self.y * self.x

    def is_close(self, other: "Spacing", tolerance: float = 1e-3) -> bool:
        """Return whether both spacings are equal within a relative tolerance."""
        pairs = zip(self.zyx, other.zyx, strict=True)
        return all(math.isclose(a, b, rel_tol=tolerance) for a, b in pairs)

    def __str__(self) -> str:
        """Return the lengths as text, with their unit and order."""
        return " x ".join(f"{length:.6g}" for length in self.zyx) + " um (z, y, x)"


def unit_name(unit: str) -> str:
    """Return this package's name of a length unit, which files spell in many ways.

    Raises
    ------
    SpacingError
        If the unit is not a length unit that this package knows.
    """
    text = unit.strip()
    for candidate in (text, text.lower()):
        name = _ALIASES.get(candidate, candidate)
        if name in UM_PER:
            return name
    message = f"unit {unit!r} is not a known length; expected {', '.join(UM_PER)}"
    raise SpacingError(message)


def um_per(unit: str) -> float | None:
    """Return how many um a unit of length has; None if it is none that is known."""
    try:
        return UM_PER[unit_name(unit)]
    except SpacingError:
        return None
