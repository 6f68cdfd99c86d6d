"""Find a bundle, which is a folder of the user's or comes with the package."""

import logging
from importlib.resources import files
from pathlib import Path

from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.words import suggestion

logger = logging.getLogger(__name__)
_MARK = ("configs", "metadata.json")
# The place of the weights in the folder of a bundle or run.
MODELS = "models"
WEIGHTS = "model.safetensors"
_SUFFIXES = (".safetensors", ".pt", ".pth")
# Bundles by their old names, which still find them.
RENAMED = {
    "recipe_dsb2018_nuclei": "nuclei_unet2d",
    "recipe_em_mitochondria": "em_mitochondria_unet2d",
    "recipe_mes_nuclei": "mes_nuclei_googlenet",
    "recipe_unet31m": "cell_tomo_unet31m",
    "sxt_cell_nucleus_cascade": "cell_tomo_cascade",
}


def find_bundle(place: str | Path) -> Path:
    """Return the folder of a bundle or run.

    The old name of a renamed bundle works too, with a warning that gives the new one.

    Parameters
    ----------
    place : str or Path
        A folder, or the name of a bundle of the package.

    Raises
    ------
    ConfigError
        If there is no such folder or bundle, or the folder is not a bundle.
    """
    path = Path(place)
    if path.is_dir():
        if not path.joinpath(*_MARK).is_file():
            message = (
                f"{path}: is not a bundle, because it holds no configs/metadata.json; "
                "give the folder of a bundle or of a training run"
            )
            raise ConfigError(message)
        return path.resolve()
    name = str(place)
    if name in RENAMED:
        logger.warning("the bundle %s was renamed to %s", name, RENAMED[name])
        name = RENAMED[name]
    shipped = shipped_bundles()
    if name in shipped:
        return shipped[name]
    message = f"{place}: is neither a folder nor a bundle of the package"
    raise ConfigError(message + suggestion(name, list(shipped)))


def shipped_bundles() -> dict[str, Path]:
    """Return the folders of the bundles that come with the package, by name.

    An installed package holds them in ``cellseg3d/bundles``. In a checkout, which an
    editable installation reads, they lie beside the package.
    """
    package = Path(str(files("cellseg3d")))
    for folder in (package / "bundles", package.parent / "bundles"):
        marks = sorted(folder.glob("/".join(("*", *_MARK))))
        if marks:
            return {mark.parents[1].name: mark.parents[1] for mark in marks}
    return {}


def weights_file(folder: str | Path) -> Path:
    """Return the file that holds, or will hold, the weights of a bundle or run."""
    return Path(folder) / MODELS / WEIGHTS


def no_weights(folder: Path) -> str:
    """Return a message about a bundle without weights, which says what to do."""
    return (
        f"{folder / MODELS}: holds no weights; train the bundle first with cellseg3d "
        f"train --bundle {folder.name} --data DATALIST --out RUN and give RUN instead, "
        "or give a bundle that `cellseg3d bundle list` shows with weights"
    )


def require_weights(path: str | Path) -> None:
    """End ``python -m monai.bundle`` with one line if a bundle holds no weights.

    Parameters
    ----------
    path : str or Path
        The bundle's ``models/model.safetensors``, or a file of the user's.

    Raises
    ------
    SystemExit
        If there is no such file. MONAI would show any other error as a traceback.
    """
    file = Path(path)
    if not (file.is_file() or file.with_name(f"{file.name}.prev").is_file()):
        raise SystemExit(f"error: {no_weights(file.parent.parent)}")


def weights_of(place: str | Path) -> Path:
    """Return the file of the weights that a user named.

    Parameters
    ----------
    place : str or Path
        A file of weights, the folder of a bundle or run, or the name of a bundle of the
        package.

    Raises
    ------
    InputError
        If there is no such file, or the bundle has no weights.
    ConfigError
        If there is no such folder or bundle.
    """
    path = Path(place)
    if path.is_file():
        return path
    if path.suffix in _SUFFIXES:
        message = (
            f"{path}: does not exist; expected a file of weights "
            f"({', '.join(_SUFFIXES)})"
        )
        raise InputError(message)
    bundle = find_bundle(place)
    file = weights_file(bundle)
    if not file.is_file():
        raise InputError(no_weights(bundle))
    return file


def configs_dir() -> Path:
    """Return the folder ``configs/`` of the checkout.

    Raises
    ------
    ConfigError
        If the package is not run from a checkout.
    """
    folder = Path(str(files("cellseg3d"))).parent / "configs"
    if not folder.is_dir():
        message = (
            f"{folder}: does not exist, because the package does not run from a "
            "checkout; clone the repository and install it with pip install -e"
        )
        raise ConfigError(message)
    return folder
