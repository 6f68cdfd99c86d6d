"""Every error a user can cause or meet, each with the exit code it ends in.

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

A message says what was found, what was expected and the way out, in one line that
begins with the file's name.
"""


class CellSegError(Exception):
    """Base of all errors of this package; ``exit_code`` is the command line's.

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
    """NaN or infinity stands where a number must."""


class CoverageError(InputError):
    """Some voxel lies in no window or block."""


class ConfigError(CellSegError):
    """A config, a datalist or an option is wrong."""

    exit_code = 3


class EnvironmentFault(CellSegError):  # noqa: N818 - EnvironmentError is Python's
    """The machine cannot do it: disk, memory, permission, a missing extra."""

    exit_code = 4
