"""Predict whole volumes by way of MONAI: an inferer with the same windows and slices.

A MONAI bundle's configs name `VolumeInferer`, so validation during a training and
MONAI's ``run inferring`` give the labels that `segment` gives.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from monai.inferers.inferer import Inferer
from torch import Tensor, nn

from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.models.fused_networks import LEAST, FusedNetworks, Member
from cellseg3d.models.geometry import classes_of
from cellseg3d.models.hardware import (
    check_acceleration,
    choose_hardware,
    possible_precision,
)
from cellseg3d.prediction.field import ArrayField
from cellseg3d.prediction.fusion import FUSE_MODES
from cellseg3d.prediction.lattice import WindowSettings
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.setup import pipeline_of, sources_of


@dataclass(frozen=True)
class _Part:
    """A network without a bundle; it implements `setup.OneNetwork`."""

    name: str
    network: nn.Module
    spec: InputSpec
    window: Mapping[str, Any]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, which are their numbers."""
        return tuple(map(str, range(classes_of(self.network))))


class VolumeInferer(Inferer):
    """Predict whole volumes with a 2D, 2.5D or 3D network, or with several fused.

    Parameters
    ----------
    spec : InputSpec or dict
        The network's input.
    window : dict, optional
        Core, halo, axes and batch; see `lattice.WindowSettings`. The members of fused
        networks have windows of their own.
    precision : {"auto", "float32", "bfloat16", "int8"}
        ``"auto"`` decides for each volume by a trial; see `trial.prepare_for`. On a
        device that cannot compute in bfloat16, float32 is taken, with a warning.
    fuse : str
        How several axes and members become one answer; see `fusion.Fusion`.
        ``"auto"`` takes the weights that the windows hold, or else weights from the
        voxel's shape.
    output : {"logits", "probs"}
        What is returned. The logits of one source are the network's own; those of
        several sources are the logarithm of the fused probabilities.
    spacing_um : sequence of float, optional
        Voxel edges (z, y, x) of the volumes, in um. When None, voxels count as cubes.
    acceleration : {"auto", "off"}
        See `options.SegmentOptions`.
    trial : bool
        Whether a trial decides about bfloat16. When False, bfloat16 is taken wherever
        the processor multiplies it. Validation during a training does this, because
        the weights change from one validation to the next.

    Raises
    ------
    ConfigError
        If an argument has an unknown value.
    """

    def __init__(  # noqa: PLR0913 - keys of a config
        self,
        spec: InputSpec | Mapping[str, Any],
        window: Mapping[str, Any] | None = None,
        precision: str = "auto",
        fuse: str = "auto",
        output: str = "logits",
        spacing_um: Sequence[float] | None = None,
        *,
        acceleration: str = "auto",
        trial: bool = True,
    ) -> None:
        super().__init__()
        self.spec = InputSpec.parse(spec if isinstance(spec, InputSpec) else dict(spec))
        self.window = dict(window or {})
        WindowSettings.parse(self.window, self.spec)
        self.precision = precision
        if fuse not in ("auto", *FUSE_MODES):
            known = ", ".join(("auto", *FUSE_MODES))
            raise ConfigError(f"`fuse` is {fuse!r}; expected one of {known}")
        self.fuse = fuse
        if output not in ("logits", "probs"):
            raise ConfigError(f"`output` is {output!r}; expected 'logits' or 'probs'")
        self.output = output
        self.spacing = None if spacing_um is None else Spacing.of(spacing_um)
        check_acceleration(acceleration)
        self.acceleration = acceleration
        self.trial = trial

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Tensor],
        *args: Any,  # noqa: ANN401 - MONAI's signature
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """Return logits or probabilities (B, K, Z, Y, X) of whole volumes.

        Parameters
        ----------
        inputs : tensor of float, shape (B, C, Z, Y, X)
            Scaled intensities.
        network : Module
            Takes (N, C, ...) and gives logits (N, K, ...). It is not changed.

        Returns
        -------
        tensor of float32, on the device of `inputs`

        Raises
        ------
        AxisError
            If the inputs do not have five axes, or have another number of channels
            than the network takes.
        ConfigError
            If the network is not a torch module.
        """
        del args, kwargs
        if inputs.ndim != 5 or inputs.shape[1] != self.spec.image_channels:
            message = (
                f"the inputs have shape {list(inputs.shape)}; expected (B, "
                f"{self.spec.image_channels}, Z, Y, X)"
            )
            raise AxisError(message)
        if not isinstance(network, nn.Module):
            raise ConfigError(
                f"the network is a {type(network).__name__}; expected a torch Module"
            )
        # DistributedDataParallel wraps the network as `module`.
        parts = self._parts(getattr(network, "module", network))
        device = inputs.device
        with torch.autocast(device.type, enabled=False), torch.inference_mode():
            images = inputs.detach().as_subclass(Tensor)
            answers = []
            for image in images:
                field = ArrayField(image.float().cpu().numpy())
                answers.append(self._one(field, parts, str(device)))
            return torch.stack(answers).to(device)

    def _parts(self, network: nn.Module) -> list[_Part]:
        """Return the network itself, or the members of fused networks."""
        if not isinstance(network, FusedNetworks):
            return [_Part("network", network, self.spec, self.window)]
        return [
            _Part(name, member.network, member.spec, member.window)
            for name, member in network.members.items()
            if isinstance(member, Member)
        ]

    def _one(self, field: ArrayField, parts: Sequence[_Part], device: str) -> Tensor:
        """Return logits or probabilities (K, Z, Y, X) of one volume."""
        precision = possible_precision(device, self.precision)
        if not self.trial:
            precision = choose_hardware(device, precision).precision
        options = SegmentOptions(
            fuse=self.fuse,
            device=device,
            precision=precision,
            acceleration=self.acceleration,
            probs=True,
        )
        # Probabilities need no more than the difference of two classes' logits; the
        # logits themselves are wanted as the network gives them.
        sources = [
            source
            for part in parts
            for source in sources_of(
                part, field, options, difference=self.output == "probs"
            )
        ]
        pipeline = pipeline_of([sources], options, self.spacing)
        if len(pipeline.sources) == 1 and self.output == "logits":
            return _gathered(pipeline)
        probs = torch.from_numpy(pipeline.whole().probs)
        return probs if self.output == "probs" else probs.clamp_min(LEAST).log()


def _gathered(pipeline: Pipeline) -> Tensor:
    """Return the logits (K, Z, Y, X) of a pipeline of one source, float32."""
    gathered = torch.empty((pipeline.classes, *pipeline.shape))
    for chunk in pipeline.chunks():
        for _, roi, logits in pipeline.logits(chunk):
            gathered[(slice(None), *roi.slices)] = logits
    return gathered
