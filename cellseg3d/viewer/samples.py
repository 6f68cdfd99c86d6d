"""Sample data for napari: a simulated cell and its true labels."""

from cellseg3d.simulate.case import simulate_case
from cellseg3d.viewer.layers import LayerData, layer_of

SIDE = 64


def simulated_cell() -> list[LayerData]:
    """Return a simulated soft X-ray tomogram of a cell, and its components."""
    case = simulate_case(SIDE, seed=1)
    return [
        layer_of(case.tomogram, "simulated cell", "image"),
        layer_of(case.labels, "true components", "labels"),
    ]
