"""One thing that is wrong with a data set: where, what, and the way out."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from cellseg3d.core.errors import (
    AxisError,
    CellSegError,
    ConfigError,
    EnvironmentFault,
    FormatError,
    InputError,
    LabelError,
    NonFiniteError,
    SpacingError,
)

Severity = Literal["error", "warning"]
# What a repair can undo; the rest is told.
NAN_IMAGE = "image not finite"
BINARY_LABEL = "0/255 label"
FLOAT_LABEL = "label stored as float"
TRANSPOSED = "transposed label"
GAPS = "gaps in label values"
MACHINE = "machine"
DUPLICATE = "duplicate content"
CONSTANT = "constant image"
EMPTY_LABEL = "empty label"
FOLDS = "folds"
DATALIST = "datalist"

_KINDS: tuple[tuple[type[CellSegError], str], ...] = (
    (FormatError, "damaged file"),
    (AxisError, "axes"),
    (SpacingError, "spacing"),
    (LabelError, "label values"),
    (NonFiniteError, NAN_IMAGE),
    (InputError, "file"),
    (ConfigError, DATALIST),
    (EnvironmentFault, MACHINE),
)


@dataclass(frozen=True)
class Finding:
    """One fault of a file or of the data set.

    Parameters
    ----------
    severity : {"error", "warning"}
        An error stops a training.
    kind : str
        A few words that sort faults alike.
    file : str
        Path of the file, or of the datalist.
    cause : str
        What was found, and what was expected.
    way_out : str
        What to do.
    case : str
        Name of the case; empty for the data set.
    """

    severity: Severity
    kind: str
    file: str
    cause: str
    way_out: str
    case: str = ""

    @property
    def line(self) -> str:
        """The finding as one line."""
        return f"{self.file}: {self.cause}; {self.way_out}"

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def from_error(
    error: CellSegError,
    file: str,
    case: str = "",
    *,
    kind: str = "",
    severity: Severity = "error",
) -> Finding:
    """Return a refusal as a finding: its line is taken apart at the last semicolon.

    Parameters
    ----------
    error : CellSegError
        Whose message reads ``FILE: what was found; what to do``.
    file : str
        The file, as messages name it.
    case : str
    kind : str
        Instead of the one that follows from the class of the error.
    severity : {"error", "warning"}
    """
    text = " ".join(str(error).split()).removeprefix(f"{file}: ")
    text = text.removeprefix(f"{file.partition('::')[0]}: ")
    cause, mark, way_out = text.rpartition("; ")
    if not mark:
        cause, way_out = text, "look at it with `cellseg3d inspect`"
    named = kind or next(name for known, name in _KINDS if isinstance(error, known))
    return Finding(severity, named, file, cause, way_out, case)
