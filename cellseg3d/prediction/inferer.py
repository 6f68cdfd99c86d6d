"""MONAI's face of prediction: an inferer that calls the same windows and slices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.inferers.inferer import Inferer
from torch import Tensor, nn

from cellseg3d.acceleration.hardware import choose_hardware, possible_precision
from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.models.fused_networks import LEAST, FusedNetworks, Member
from cellseg3d.models.geometry import classes_of, geometry_of
from cellseg3d.prediction.field import ArrayField
from cellseg3d.prediction.fusion import FUSE_MODES, Fuser, probs_of
from cellseg3d.prediction.lattice import WindowPlan
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import fitted
from cellseg3d.prediction.source_weights import (
    UsedSource,
    bundle_weights,
    fusion_of,
)
from cellseg3d.prediction.sources import NetworkUse, Source
from cellseg3d.prediction.trial import prepare_for


class VolumeInferer(Inferer):
    """Predict whole volumes with a 2D, 2.5D or 3D network, or several fused.

    Parameters
    ----------
    spec : InputSpec or dict
        The network's input.
    window : dict, optional
        Core, halo, axes, batch; see `lattice.WindowPlan`. Members of several fused
        networks have windows of their own.
    precision : {"auto", "float32", "bfloat16", "int8"}
        ``"auto"`` is settled for each volume by a trial; see `trial.prepare_for`.
        Where a device cannot compute in bfloat16, float32 is taken, with a warning.
    fuse : str
        How several axes and members become one answer; ``"auto"`` takes the weights
        that windows hold, else the prior of the voxel's shape; see `fusion.Fusion`.
    output : {"logits", "probs"}
        What comes out. Of one source, logits are the network's own; of several,
        the logarithm of the fused probabilities.
    spacing_um : sequence of float, optional
        Voxel edges (z, y, x) of the volumes; None counts as cubes.
    trial : bool
        False takes bfloat16 untried where the processor multiplies it, as validation
        during a training does, whose network is another at the next call.
    """

    def __init__(
        self,
        spec: InputSpec | Mapping[str, Any],
        window: Mapping[str, Any] | None = None,
        precision: str = "auto",
        fuse: str = "auto",
        output: str = "logits",
        spacing_um: Sequence[float] | None = None,
        *,
        trial: bool = True,
    ) -> None:
        super().__init__()
        self.spec = InputSpec.parse(spec if isinstance(spec, InputSpec) else dict(spec))
        self.plan = WindowPlan.parse(window or {}, self.spec)
        self.precision = precision
        if fuse not in ("auto", *FUSE_MODES):
            known = ", ".join(("auto", *FUSE_MODES))
            raise ConfigError(f"fuse {fuse!r}; expected one of {known}")
        self.fuse = fuse
        if output not in ("logits", "probs"):
            raise ConfigError(f"output {output!r}; expected 'logits' or 'probs'")
        self.output = output
        self.spacing = None if spacing_um is None else Spacing.of(spacing_um)
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
            (N, C, ...) to logits (N, K, ...); it is left as it is.

        Returns
        -------
        tensor of float32, on the device of `inputs`

        Raises
        ------
        AxisError
            If the inputs do not have five axes, or the wrong number of channels.
        ConfigError
            If the network is not a torch module.
        """
        del args, kwargs
        if inputs.ndim != 5 or inputs.shape[1] != self.spec.image_channels:
            message = (
                f"inputs of shape {list(inputs.shape)}; expected (B, "
                f"{self.spec.image_channels}, Z, Y, X)"
            )
            raise AxisError(message)
        if not isinstance(network, nn.Module):
            raise ConfigError(
                f"network is a {type(network).__name__}; expected a Module"
            )
        inner = getattr(network, "module", network)  # what torch's DDP wraps
        device = inputs.device
        with torch.autocast(device.type, enabled=False), torch.inference_mode():
            images = inputs.detach().as_subclass(Tensor)
            fields = [ArrayField(image.float().cpu().numpy()) for image in images]
            answers = []
            for field in fields:
                uses = self._uses(inner, str(device), field)
                found = [(one, use) for use in uses for one in use.sources(field)]
                answers.append(self._one(found))
            return torch.stack(answers).to(device)

    def _uses(
        self, network: nn.Module, device: str, field: ArrayField
    ) -> list[NetworkUse]:
        """Return a network, or the members of one that fuses several, prepared."""
        if not isinstance(network, FusedNetworks):
            parts = [("network", network, self.spec, self.plan)]
        else:
            parts = [
                (
                    name,
                    member.network,
                    member.spec,
                    WindowPlan.parse(member.window, member.spec),
                )
                for name, member in network.members.items()
                if isinstance(member, Member)
            ]
        precision = possible_precision(device, self.precision)
        if not self.trial:
            precision = choose_hardware(device, precision).precision
        uses = []
        for name, inner, spec, window in parts:
            geometry = geometry_of(inner)
            options = SegmentOptions(device=device, precision=precision)
            # Logits are the network's own; probabilities need no more than it tells.
            engine = prepare_for(
                field,
                inner,
                spec,
                window.axes,
                options,
                contrasts=self.output == "probs",
            )
            uses.append(
                NetworkUse(
                    name,
                    engine,
                    spec,
                    window,
                    geometry.stride,
                    classes_of(inner),
                    geometry.sees_window,
                )
            )
        return uses

    def _one(self, found: Sequence[UsedSource]) -> Tensor:
        rows = bundle_weights(found, self.fuse, self.spacing)
        pairs = [
            (source, row)
            for (source, _), row in zip(found, rows, strict=True)
            if max(row) > 0
        ]
        chosen, _ = fitted([source for source, _ in pairs])
        whole = Roi.whole(chosen[0].shape)
        if len(chosen) == 1 and self.output == "logits":
            return _gather(chosen[0], whole)
        fusion = fusion_of(self.fuse, [row for _, row in pairs])
        fuser = Fuser(fusion, len(chosen), chosen[0].classes, whole.shape)
        for index, source in enumerate(chosen):
            for roi, logits in source.logits(whole):
                fuser.add(index, roi, probs_of(logits))
        probs = fuser.probs()
        return probs if self.output == "probs" else probs.clamp_min(LEAST).log()


def _gather(source: Source, whole: Roi) -> Tensor:
    """Return one source's logits (K, Z, Y, X)."""
    gathered: Tensor | None = None
    for roi, logits in source.logits(whole):
        if gathered is None:
            gathered = torch.empty((len(logits), *whole.shape), dtype=torch.float32)
        gathered[(slice(None), *roi.slices)] = logits
    if gathered is None:
        raise AxisError("the volume holds no voxel")
    return gathered
