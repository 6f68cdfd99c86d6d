"""What another process needs to plan the same segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass

from cellseg3d.core.volume import Volume
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.predictor import TrainedModel
from cellseg3d.prediction.setup import plan


@dataclass(frozen=True)
class Recipe:
    """A volume, models and options; small enough to send when the volume is lazy."""

    volume: Volume
    models: Sequence[TrainedModel]
    options: SegmentOptions

    def pipeline(self) -> Pipeline:
        """Return the pipeline, planned in the process that asks."""
        return plan(self.volume, self.models, self.options)
