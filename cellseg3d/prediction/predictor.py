"""What prediction needs of a trained model, and of whatever runs its network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.intensity import IntensityScale


class TrainedModel(Protocol):
    """A network with all that its training fixed; `bundle.model` loads one."""

    @property
    def name(self) -> str:
        """The bundle's name."""

    @property
    def path(self) -> Path:
        """Where it was loaded from."""

    @property
    def network(self) -> nn.Module:
        """Float32, in evaluation mode; (N, C, ...) in, logits (N, K, ...) out."""

    @property
    def spec(self) -> InputSpec:
        """The shape of the network's input."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the K classes, background first."""

    @property
    def intensity(self) -> IntensityScale:
        """How raw intensities are scaled."""

    @property
    def spacing_um(self) -> Spacing | None:
        """Voxel edges of the training volumes; None when unknown."""

    @property
    def resampled(self) -> bool:
        """Whether the training volumes were brought to `spacing_um`."""

    @property
    def window(self) -> Mapping[str, Any]:
        """What `WindowPlan.parse` reads: core, halo, axes and more."""

    @property
    def sha256(self) -> str:
        """Hash of the weights."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the user should be told."""

    @property
    def members(self) -> Sequence["TrainedModel"]:
        """The networks of a bundle that fuses several; empty for one network."""


def networks_of(model: TrainedModel) -> Sequence[TrainedModel]:
    """Return a bundle's networks: its members, or itself."""
    return model.members or (model,)


class Predictor(Protocol):
    """Runs a network on a batch."""

    def __call__(self, batch: Tensor) -> Tensor:
        """Return logits (N, K, ...) of a float32 batch (N, C, ...), same sides."""
