"""Name a missing optional package, and a command that installs it."""

from importlib.metadata import PackageNotFoundError, requires

from cellseg3d.core.errors import EnvironmentFault

PACKAGE = "cellseg3d"


def missing_extra(what: str, extra: str) -> EnvironmentFault:
    """Return the error for a package that is not installed.

    The packages are named one by one, since this project is on no package index: the
    command works wherever the project was installed from.

    Parameters
    ----------
    what : str
        What needs which package, such as ``"a report needs jinja2"``.
    extra : str
        The extra of this project that the package belongs to.
    """
    packages = " ".join(f'"{each}"' for each in packages_of(extra))
    return EnvironmentFault(
        f"{what}, which is not installed; run: pip install {packages}"
    )


def packages_of(extra: str) -> list[str]:
    """Return the requirements of an extra, as pip reads them."""
    try:
        every = requires(PACKAGE) or []
    except PackageNotFoundError:
        every = []
    marked = [each.partition(";") for each in every]
    found = [
        name.strip()
        for name, _, marker in marked
        if f'extra == "{extra}"' in marker.replace("'", '"')
    ]
    return found or [f".[{extra}]"]
