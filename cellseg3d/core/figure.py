"""An empty figure of matplotlib, which is no need of the rest."""

from typing import Any

from cellseg3d.core.errors import EnvironmentFault


def empty_figure(width: float, height: float, extra: str) -> Any:  # noqa: ANN401
    """Return a figure that needs no screen, width x height inches.

    Parameters
    ----------
    width, height : float
        Inches.
    extra : str
        What to install matplotlib with: an extra of this package.

    Raises
    ------
    EnvironmentFault
        If matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        message = f'pictures need matplotlib; pip install "cellseg3d[{extra}]"'
        raise EnvironmentFault(message) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
