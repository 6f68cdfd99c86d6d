"""Create an empty matplotlib figure; matplotlib is an optional dependency."""

from typing import Any

from cellseg3d.core.extras import missing_extra


def empty_figure(width: float, height: float, extra: str) -> Any:  # noqa: ANN401
    """Return an empty figure that can be drawn without a screen.

    Parameters
    ----------
    width, height : float
        Size of the figure in inches.
    extra : str
        The extra of this package that installs matplotlib, named in the error.

    Raises
    ------
    EnvironmentFault
        If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra("pictures need matplotlib", extra) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
