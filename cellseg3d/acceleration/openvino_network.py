"""Run a network with OpenVINO: a compiled graph, in bfloat16, float32 or int8."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellseg3d.acceleration.folding import fold
from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.models.geometry import geometry_of
from cellseg3d.models.hardware import Hardware

TELEMETRY = "openvino_telemetry"

_WORDS = {"bfloat16": "bf16", "float32": "f32", "int8": "f32"}


class CompiledNetwork(nn.Module):
    """A network that OpenVINO runs; compiled once for each shape of window.

    Parameters
    ----------
    model : openvino.Model
        With inputs of any spatial shape.
    settings : dict
        For the compiler.
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
    """Return a network in OpenVINO's hands.

    Parameters
    ----------
    network : Module
        Float32, in evaluation mode; left as it is.
    hardware : Hardware
        Gives the number format.
    windows : sequence of tensor
        Windows of the volume, (N, C, ...), that int8 is calibrated with.

    Raises
    ------
    ConfigError
        If int8 is asked for and there is no window.
    EnvironmentFault
        If OpenVINO (for int8, NNCF too) is not installed.
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
            message = "int8 is calibrated with a volume's windows; none were given"
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
    # Both look up a host and leave an id in the home folder, unless the package that
    # does so cannot be imported; then they know how to go without.
    sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f'{name} is not installed: pip install "cellseg3d[openvino]"'
        raise EnvironmentFault(message) from error
