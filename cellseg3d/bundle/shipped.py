"""Find a bundle: a folder of the user's, or one that came with the package."""

import difflib
import logging
from importlib.resources import files
from pathlib import Path

from cellseg3d.core.errors import ConfigError, InputError

logger = logging.getLogger(__name__)
_MARK = ("configs", "metadata.json")
# Where the weights of a bundle or run lie in its folder.
MODELS = "models"
WEIGHTS = "model.safetensors"
_SUFFIXES = (".safetensors", ".pt", ".pth")
# Old name of a bundle to its name today; the old one still finds it.
RENAMED = {
    "recipe_dsb2018_nuclei": "nuclei_unet2d",
    "recipe_em_mitochondria": "em_mitochondria_unet2d",
    "recipe_mes_nuclei": "mes_nuclei_googlenet",
    "recipe_unet31m": "cell_tomo_unet31m",
    "sxt_cell_nucleus_cascade": "cell_tomo_cascade",
}


def find_bundle(place: str | Path) -> Path:
    """Return the folder of a bundle or of a run.

    A name that a bundle had before is understood, with a warning that says the
    name of today.

    Parameters
    ----------
    place : str or Path
        A folder, or the name of a bundle that came with the package.

    Raises
    ------
    ConfigError
        If there is no such folder or name, or the folder is no bundle.
    """
    path = Path(place)
    if path.is_dir():
        if not path.joinpath(*_MARK).is_file():
            message = (
                f"{path}: is no bundle (it holds no configs/metadata.json); give the "
                "folder of a bundle or of a training run"
            )
            raise ConfigError(message)
        return path.resolve()
    name = str(place)
    if name in RENAMED:
        logger.warning("the bundle %s is called %s today", name, RENAMED[name])
        name = RENAMED[name]
    shipped = shipped_bundles()
    if name in shipped:
        return shipped[name]
    near = difflib.get_close_matches(name, sorted(shipped), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(shipped)}"
    raise ConfigError(f"{place}: neither a folder nor a bundle that came along; {hint}")


def shipped_bundles() -> dict[str, Path]:
    """Return the bundles that came with the package, by name.

    An installed package holds them as ``cellseg3d/bundles``. In a checkout, which an
    editable installation reads, they lie beside the package.
    """
    package = Path(str(files("cellseg3d")))
    for folder in (package / "bundles", package.parent / "bundles"):
        marks = sorted(folder.glob("/".join(("*", *_MARK))))
        if marks:
            return {mark.parents[1].name: mark.parents[1] for mark in marks}
    return {}


def weights_file(folder: str | Path) -> Path:
    """Return where the weights of a bundle or run lie, or will lie."""
    return Path(folder) / MODELS / WEIGHTS


def no_weights(folder: Path) -> str:
    """Return what to do with a bundle that holds no weights yet, in one line."""
    return (
        f"{folder / MODELS}: holds no weights; train first: cellseg3d train --bundle "
        f"{folder.name} --data DATALIST --out RUN, then predict with --bundle RUN"
    )


def require_weights(path: str | Path) -> None:
    """End ``python -m monai.bundle`` with one line when a bundle holds no weights.

    Parameters
    ----------
    path : str or Path
        ``models/model.safetensors`` of the bundle, or a file of the user's.

    Raises
    ------
    SystemExit
        If there is no such file; MONAI passes it on, other errors become tracebacks.
    """
    file = Path(path)
    if not (file.is_file() or file.with_name(f"{file.name}.prev").is_file()):
        raise SystemExit(f"error: {no_weights(file.parent.parent)}")


def weights_of(place: str | Path) -> Path:
    """Return the file of weights of a bundle, a run, or a file itself.

    Parameters
    ----------
    place : str or Path
        A file of weights, the folder of a bundle or run, or a shipped bundle's name.

    Raises
    ------
    InputError
        If there is no such file.
    ConfigError
        If there is no such folder or bundle, or it has no weights.
    """
    path = Path(place)
    if path.is_file():
        return path
    if path.suffix in _SUFFIXES:
        message = f"{path}: no such file; expected weights ({', '.join(_SUFFIXES)})"
        raise InputError(message)
    bundle = find_bundle(place)
    file = weights_file(bundle)
    if not file.is_file():
        message = (
            f"{place}: has no weights yet ({file.name} is not in its models folder); "
            "train it first, or name a bundle that `cellseg3d bundle list` shows with "
            "weights"
        )
        raise ConfigError(message)
    return file


def configs_dir() -> Path:
    """Return the checkout's ``configs/``.

    Raises
    ------
    ConfigError
        If the package was installed without it.
    """
    folder = Path(str(files("cellseg3d"))).parent / "configs"
    if not folder.is_dir():
        message = f"{folder}: bundles are assembled in a checkout; clone the repository"
        raise ConfigError(message)
    return folder
