"""Run a network with OpenVINO, compiled for bfloat16, float32 or int8."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellseg3d.acceleration.folding import fold
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.extras import missing_extra
from cellseg3d.models.geometry import geometry_of
from cellseg3d.models.hardware import Hardware

TELEMETRY = "openvino_telemetry"

_WORDS = {"bfloat16": "bf16", "float32": "f32", "int8": "f32"}


class CompiledNetwork(nn.Module):
    """A network that OpenVINO runs; it is compiled once for each shape of window.

    Parameters
    ----------
    model : openvino.Model
        A model that takes any spatial shape.
    settings : dict
        Settings of OpenVINO's compiler.
    """

    def __init__(self, model: Any, settings: dict[str, Any]) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model
        self.settings = settings
        self._compiled: dict[tuple[int, ...], Any] = {}

    def forward(self, image: Tensor) -> Tensor:
        """Return float32 logits (N, K, ...) of (N, C, ...)."""
        shape = tuple(image.shape)
        if shape not in self._compiled:
            openvino = _import("openvino")
            self.model.reshape(list(shape))
            self._compiled[shape] = openvino.compile_model(
                self.model, "CPU", self.settings
            )
        given = np.ascontiguousarray(image.float().cpu().numpy())
        answer = self._compiled[shape](given)[0]
        return torch.from_numpy(np.array(answer))


def compile_network(
    network: nn.Module, hardware: Hardware, windows: Sequence[Tensor] = ()
) -> CompiledNetwork:
    """Return a network that OpenVINO runs.

    Parameters
    ----------
    network : Module
        A network in float32 and evaluation mode; it is not changed.
    hardware : Hardware
        The number format to compute in.
    windows : sequence of tensor
        Windows of the volume, (N, C, ...), with which int8 is calibrated.

    Raises
    ------
    ConfigError
        If int8 is asked for and no window is given.
    EnvironmentFault
        If OpenVINO is not installed, or NNCF, which int8 needs as well.
    """
    openvino = _import("openvino")
    geometry = geometry_of(network)
    free = [-1, geometry.channels, *([-1] * geometry.dims)]
    model = openvino.convert_model(
        fold(network), example_input=geometry.noise(), input=[free]
    )
    if hardware.precision == "int8":
        nncf = _import("nncf")
        if not windows:
            message = (
                "int8 is calibrated with windows of a volume, and none were given; "
                "give some, or take precision 'float32'"
            )
            raise ConfigError(message)
        shown = [window.float().cpu().numpy() for window in windows]
        model = nncf.quantize(model, nncf.Dataset(shown))
    settings = {
        "INFERENCE_PRECISION_HINT": _WORDS[hardware.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return CompiledNetwork(model, settings)


def _import(name: str) -> Any:  # noqa: ANN401
    # OpenVINO and NNCF report their use to a host and leave an id in the home folder.
    # They do without if the package for it cannot be imported.
    sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f"int8 and the backend openvino need {name}"
        raise missing_extra(what, "openvino") from error
