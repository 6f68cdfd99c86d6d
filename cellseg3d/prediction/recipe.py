"""Describe a segmentation so that another process can set it up again."""

from collections.abc import Sequence
from dataclasses import dataclass

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.volume import Volume
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.setup import set_up


@dataclass(frozen=True)
class Recipe:
    """The volume, models and options of a segmentation, to send to other processes.

    It is small if the volume is read from disk rather than held in memory.
    """

    volume: Volume
    models: Sequence[TrainedModel]
    options: SegmentOptions

    def pipeline(self) -> Pipeline:
        """Return the pipeline, set up in the process that calls this."""
        return set_up(self.volume, self.models, self.options, warn=False)
