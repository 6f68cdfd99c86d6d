"""What another process needs to set up the same segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.volume import Volume
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.setup import set_up


@dataclass(frozen=True)
class Recipe:
    """A volume, models and options; small enough to send when the volume is lazy."""

    volume: Volume
    models: Sequence[TrainedModel]
    options: SegmentOptions

    def pipeline(self) -> Pipeline:
        """Return the pipeline, set up in the process that asks."""
        return set_up(self.volume, self.models, self.options)
