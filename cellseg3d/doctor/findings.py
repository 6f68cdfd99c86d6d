"""A finding: what is wrong with a file or a data set, and what the user can do."""

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
# Kinds of findings that other modules ask for by name.
NAN_IMAGE = "image not finite"
BINARY_LABEL = "0/255 label"
FLOAT_LABEL = "label stored as float"
TRANSPOSED = "transposed label"
GAPS = "gaps in label values"
MACHINE = "machine"
REPAIRABLE = frozenset({NAN_IMAGE, BINARY_LABEL, FLOAT_LABEL, TRANSPOSED, GAPS})
DUPLICATE = "duplicate content"
CONSTANT = "constant image"
EMPTY_LABEL = "empty label"
FOLDS = "folds"
PARTLY = "slices without labels"
CLASS_NOT_TRAINED = "class not trained"
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
        A few words, the same for all faults of one kind.
    file : str
        Path of the file, or of the datalist.
    cause : str
        What was found, and what was expected.
    way_out : str
        What the user can do.
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
        """Return the fields by name, for JSON."""
        return asdict(self)


def parted(text: str) -> tuple[str, str]:
    """Return two parts of a message: what was found, and what to do (or an empty text).

    The second part begins at the first semicolon after what was found and what was
    expected. It may contain further semicolons.
    """
    cause, *rest = text.split("; ")
    while rest and rest[0].startswith("expected"):
        cause = f"{cause}; {rest.pop(0)}"
    return cause, "; ".join(rest)


def from_error(
    error: CellSegError,
    file: str,
    case: str = "",
    *,
    kind: str = "",
    severity: Severity = "error",
) -> Finding:
    """Return an error as a finding; its message is divided by `parted`.

    Parameters
    ----------
    error : CellSegError
        An error whose message reads ``FILE: what was found; what to do``.
    file : str
        The file as messages name it.
    case : str
        Name of the case; empty for the data set.
    kind : str
        Kind of the finding; derived from the class of the error when empty.
    severity : {"error", "warning"}
    """
    text = " ".join(str(error).split()).removeprefix(f"{file}: ")
    text = text.removeprefix(f"{file.partition('::')[0]}: ")
    cause, way_out = parted(text)
    if not way_out:
        looks = isinstance(error, ConfigError)
        way_out = "correct it" if looks else "look at it with `cellseg3d inspect`"
    named = kind or next(name for known, name in _KINDS if isinstance(error, known))
    return Finding(severity, named, file, cause, way_out, case)
