"""Every error that a user can cause or meet, with the exit code of the command line.

::

    CellSegError
    |-- InputError          exit 2: a file or what is in it
    |   |-- AxisError       axis order, number of dimensions, channels, time points
    |   |-- SpacingError    a spacing missing, zero, or in conflict
    |   |-- FormatError     a file that is not what its name or header says
    |   |-- LabelError      label values or label shape
    |   |-- NonFiniteError  NaN or infinity where a number must stand
    |   `-- CoverageError   a voxel that no window or block covers
    |-- ConfigError         exit 3: a config, a datalist, an option
    `-- EnvironmentFault    exit 4: disk, memory, permission, a missing extra

Each message is one line. It begins with the file's name and says what was found, what
was expected and what the user can do.
"""


class CellSegError(Exception):
    """Base of all errors of this package; the command line ends with ``exit_code``.

    Examples
    --------
    >>> import cellseg3d
    >>> try:
    ...     cellseg3d.read_volume("absent.tif")
    ... except cellseg3d.CellSegError as error:
    ...     print("absent.tif" in str(error), error.exit_code)
    True 2
    """

    exit_code = 1


class InputError(CellSegError):
    """A file, or what is in it, cannot be used as it is."""

    exit_code = 2


class AxisError(InputError):
    """Axis order, number of dimensions, channels or time points do not fit."""


class SpacingError(InputError):
    """A spacing is missing, not positive, or in conflict with another."""


class FormatError(InputError):
    """A file is not what its name or its header promises, or is cut short."""


class LabelError(InputError):
    """Label values or a label's shape do not fit the image or the classes."""


class NonFiniteError(InputError):
    """NaN or infinity was found where a finite number is needed."""


class CoverageError(InputError):
    """Some voxel is covered by no window or block."""


class ConfigError(CellSegError):
    """A config, a datalist or an option is wrong."""

    exit_code = 3


class EnvironmentFault(CellSegError):  # noqa: N818 - EnvironmentError is Python's
    """The machine lacks something: disk space, memory, a permission or a package."""

    exit_code = 4
