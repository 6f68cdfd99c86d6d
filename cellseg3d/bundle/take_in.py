"""Make a bundle from a package of another program, without running its code."""

from pathlib import Path

from cellseg3d.bundle.bioimageio.take_in import DESCRIPTIONS, read_bioimageio
from cellseg3d.bundle.bioimageio.translate import ACTIVATIONS
from cellseg3d.bundle.foreign.monai_package import METADATA, read_monai
from cellseg3d.bundle.foreign.package import Package
from cellseg3d.bundle.foreign.reading import Wishes, built, write_reading
from cellseg3d.core.atomic import environment_fault
from cellseg3d.core.errors import ConfigError, InputError


def import_package(
    place: Path,
    out: Path,
    *,
    activation: str | None = None,
    intensity: str | None = None,
    axes: str | None = None,
) -> Path:
    """Make a bundle from a package of bioimage.io or MONAI that another program wrote.

    Only weights in TorchScript (or ONNX, of bioimage.io) are taken, and only if their
    programs do nothing but compute. No Python code and no config of the package is run.
    The network must answer as the package declares: a package of bioimage.io its test
    input with its test output, one of MONAI any input with the declared channels on
    the same grid.

    Parameters
    ----------
    place : Path
        The package: a folder or a zip file. If it is of both kinds, the description
        for bioimage.io is taken, which says more.
    out : Path
        The folder of the new bundle.
    activation : {"softmax", "sigmoid"}, optional
        The function that turns the output into probabilities, if the package does not
        state it.
    intensity : str, optional
        How raw intensities are scaled for a package of MONAI, whose metadata do not say
        it: ``percentile:LOW:HIGH`` or ``range:LOW:HIGH`` (these become the ends of the
        declared range), ``zscore`` or ``none``. By default, percentiles .5 and 99.5.
    axes : str, optional
        The order of the axes of space in the input of a package of MONAI, such as
        ``"xyz"``; by default, ``"zyx"`` or ``"yx"``.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        If `out` exists, or the package holds something that cannot be predicted safely.
    InputError
        If the package is damaged, or does not answer as it declares.
    """
    if out.exists():
        raise ConfigError(f"{out}: exists already; give another folder")
    if activation not in (None, *ACTIVATIONS):
        message = f"`activation` is {activation!r}; expected softmax or sigmoid"
        raise ConfigError(message)
    package = Package(place)
    wishes = Wishes(activation, intensity, axes)
    of_monai = not any(map(package.has, DESCRIPTIONS)) and package.has(METADATA)
    read, check = read_bioimageio, "bioimageio validate-format"
    if of_monai:
        read, check = read_monai, "python -m monai.bundle verify_metadata"
    elif not any(map(package.has, DESCRIPTIONS)):
        message = (
            f"{place}: holds neither {DESCRIPTIONS[0]} nor {METADATA}; expected a "
            "package of bioimage.io, as `bioimageio package ID OUT` writes it, or the "
            "folder of a MONAI bundle"
        )
        raise InputError(message)
    try:
        reading = read(package, wishes)
        network = built(reading)
    except (TypeError, AttributeError, ValueError, LookupError, OverflowError) as error:
        message = (
            f"{place}: its description is incomplete ({type(error).__name__}: "
            f"{error}); check it with `{check}`"
        )
        raise ConfigError(message) from error
    try:
        write_reading(out, reading, network)
    except OSError as error:
        raise environment_fault(error, out) from error
    return out
