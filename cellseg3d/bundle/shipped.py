"""Find a bundle: a folder of the user's, or one that came with the package."""

import difflib
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from cellseg3d.core.errors import ConfigError

_MARK = ("configs", "metadata.json")


def find_bundle(place: str | Path) -> Path:
    """Return the folder of a bundle or of a run.

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
    shipped = shipped_bundles()
    if str(place) in shipped:
        return shipped[str(place)]
    near = difflib.get_close_matches(str(place), sorted(shipped), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(shipped)}"
    raise ConfigError(f"{place}: neither a folder nor a bundle that came along; {hint}")


def shipped_bundles() -> dict[str, Path]:
    """Return the bundles that came with the package, by name.

    They lie beside the package in a checkout, and under ``share/cellseg3d`` of the
    environment after an installation.
    """
    beside = Path(__file__).resolve().parents[2] / "bundles"
    if beside.is_dir():
        marks = sorted(beside.glob("/".join(("*", *_MARK))))
        return {mark.parents[1].name: mark.parents[1] for mark in marks}
    try:
        listed = files("cellseg3d") or []
    except PackageNotFoundError:
        return {}
    marks = [
        Path(str(file.locate())).resolve()
        for file in listed
        if file.parts[-2:] == _MARK and "share" in file.parts
    ]
    return {mark.parents[1].name: mark.parents[1] for mark in sorted(marks)}


def no_weights(folder: Path) -> str:
    """Return what to do with a bundle that holds no weights yet, in one line."""
    return (
        f"{folder / 'models'}: holds no weights; train first: cellseg3d train --bundle "
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


def configs_dir() -> Path:
    """Return the checkout's ``configs/``.

    Raises
    ------
    ConfigError
        If the package was installed without it.
    """
    folder = Path(__file__).resolve().parents[2] / "configs"
    if not folder.is_dir():
        message = f"{folder}: bundles are assembled in a checkout; clone the repository"
        raise ConfigError(message)
    return folder
