"""Segment cells, nuclei and organelles in 3D microscopy with 2D, 2.5D and 3D U-Nets.

Each public name is imported when it is first used (PEP 562). So ``import cellseg3d`` is
fast, and code that only reads files does not load torch.
"""

from importlib import import_module

from cellseg3d.core.old_names import answer_old_names

__version__ = "0.2.0.dev0"

answer_old_names()

# Each public name and the module that holds it.
_PUBLIC = {
    "CellSegError": "cellseg3d.core.errors",
    "InputSpec": "cellseg3d.core.input_spec",
    "ObjectOptions": "cellseg3d.objects.options",
    "Roi": "cellseg3d.core.roi",
    "ScoreOptions": "cellseg3d.scoring.one_volume",
    "SegmentOptions": "cellseg3d.prediction.options",
    "SimulationOptions": "cellseg3d.datasets.simulated",
    "Spacing": "cellseg3d.core.spacing",
    "TrainOptions": "cellseg3d.runs.options",
    "Volume": "cellseg3d.core.volume",
    "evaluate": "cellseg3d.api",
    "label_objects": "cellseg3d.objects.label",
    "load_model": "cellseg3d.bundle.model",
    "measure": "cellseg3d.api",
    "open_volume": "cellseg3d.io.registry",
    "read_labels": "cellseg3d.io.registry",
    "read_volume": "cellseg3d.io.registry",
    "segment": "cellseg3d.api",
    "simulate_case": "cellseg3d.simulate.case",
    "simulate_dataset": "cellseg3d.datasets.simulated",
    "simulate_stains": "cellseg3d.simulate.stains",
    "train": "cellseg3d.training.train",
    "write_labels": "cellseg3d.io.registry",
    "write_volume": "cellseg3d.io.registry",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> object:
    """Return a public name, importing the module that holds it on first use."""
    if name not in _PUBLIC:
        message = f"module 'cellseg3d' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
