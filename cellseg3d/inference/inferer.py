"""MONAI's face of prediction: an inferer that calls the same windows and slices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.inferers.inferer import Inferer
from torch import Tensor, nn

from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi
from cellseg3d.inference.engine import prepare
from cellseg3d.inference.field import ArrayField
from cellseg3d.inference.fusion import Fuser, Fusion, probs_of
from cellseg3d.inference.geometry import classes_of, geometry_of
from cellseg3d.inference.lattice import WindowPlan
from cellseg3d.inference.pipeline import fitted
from cellseg3d.inference.sources import NetworkUse, Source


class VolumeInferer(Inferer):
    """Predict whole volumes with a 2D, 2.5D or 3D network.

    Parameters
    ----------
    spec : InputSpec or dict
        The network's input.
    window : dict, optional
        Core, halo, axes, batch; see `lattice.WindowPlan`.
    precision : {"auto", "float32", "bfloat16", "int8"}
    fuse : str
        How several axes become one answer; see `fusion.Fusion`.
    output : {"logits", "probs"}
        What comes out. Of one source, logits are the network's own; of several,
        the logarithm of the fused probabilities.
    """

    def __init__(
        self,
        spec: InputSpec | Mapping[str, Any],
        window: Mapping[str, Any] | None = None,
        precision: str = "auto",
        fuse: str = "mean",
        output: str = "logits",
    ) -> None:
        super().__init__()
        self.spec = InputSpec.parse(spec if isinstance(spec, InputSpec) else dict(spec))
        self.plan = WindowPlan.parse(window or {}, self.spec)
        self.precision = precision
        self.fusion = Fusion(fuse)
        if output not in ("logits", "probs"):
            raise ConfigError(f"output {output!r}; expected 'logits' or 'probs'")
        self.output = output

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
            engine = prepare(inner, str(device), self.precision)
            geometry = geometry_of(inner)
            answers = []
            for image in inputs.detach().as_subclass(Tensor):
                field = ArrayField(image.float().cpu().numpy())
                use = NetworkUse(
                    "network",
                    engine,
                    self.spec,
                    self.plan,
                    geometry.stride,
                    classes_of(inner),
                    geometry.sees_window,
                )
                sources = use.sources(field)
                answers.append(self._one(sources))
            return torch.stack(answers).to(device)

    def _one(self, sources: Sequence[Source]) -> Tensor:
        chosen, _ = fitted(sources)
        whole = Roi.whole(sources[0].shape)
        if len(chosen) == 1 and self.output == "logits":
            return _gather(chosen[0], whole)
        fuser: Fuser | None = None
        for index, source in enumerate(chosen):
            for roi, logits in source.logits(whole):
                if fuser is None:
                    fuser = Fuser(self.fusion, len(chosen), len(logits), whole.shape)
                fuser.add(index, roi, probs_of(logits))
        if fuser is None:
            raise AxisError("the volume holds no voxel")
        probs = fuser.probs()
        return probs if self.output == "probs" else probs.clamp_min(1e-7).log()


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
