"""The weights that a prediction uses, written beside what they are for."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from torch import nn

from cellseg3d.bundle.facts import WEIGHTS, ModelFacts
from cellseg3d.core.atomic import atomic_write
from cellseg3d.engines.average import plain_network
from cellseg3d.models.checkpoint import load_weights, read_torch, save_weights

logger = logging.getLogger(__name__)
LAST = "last.safetensors"
# MONAI's own tools (load, ckpt_export, CheckpointLoader) read this name alone.
MONAI_WEIGHTS = "model.pt"


class ModelFiles:
    """Write the best and the last weights of a training.

    ``model.safetensors`` holds the best (the last, without validation), hashed, with
    classes and spacing; ``model.pt`` is a copy for MONAI's tools, a plain state dict.

    Parameters
    ----------
    folder : str or Path
        The bundle's ``models/``.
    network : Module
        The one to save, such as the averaged one.
    facts : ModelFacts or mapping
    """

    def __init__(
        self,
        folder: str | Path,
        network: nn.Module,
        facts: ModelFacts | Mapping[str, Any],
    ) -> None:
        self.folder = Path(folder)
        self.network = plain_network(network)
        self.facts = ModelFacts.parse(facts)
        self.has_best = False
        self.sha256 = ""

    def attach(self, engine: Workflow) -> None:
        """Write the last weights when the trainer is done; attach after validation."""
        engine.add_event_handler(Events.COMPLETED, self.save)

    def save(self, engine: Workflow) -> None:
        """Write the present weights as the last; as the model when none is best."""
        if idist.get_rank() != 0:
            return
        self._write(LAST, engine.state.iteration, None)
        if not self.has_best:
            self.save_model(engine.state.iteration, None)

    def save_best(self, iteration: int, score: float) -> None:
        """Write the present weights as the best so far."""
        self.has_best = True
        if idist.get_rank() == 0:
            self.save_model(iteration, score)

    def save_model(self, iteration: int, score: float | None) -> None:
        """Write ``model.safetensors`` and its copy for MONAI."""
        self.sha256 = self._write(WEIGHTS, iteration, score)
        weights = load_weights(self.folder / WEIGHTS).tensors
        atomic_write(
            self.folder / MONAI_WEIGHTS,
            lambda new: torch.save(weights, new),
            verify=_readable,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return whether a best model stands."""
        return {"has_best": self.has_best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.has_best = bool(state["has_best"])

    def _write(self, name: str, iteration: int, score: float | None) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {
            "facts": self.facts.as_dict(),
            "iteration": int(iteration),
            "score": score,
        }
        return save_weights(self.folder / name, self.network.state_dict(), metadata)


def load_pretrained(network: nn.Module, path: str | Path | None) -> nn.Module:
    """Return the network with the weights of a file; as it is without one.

    Parameters
    ----------
    network : Module
    path : str or Path, optional
        ``.safetensors``, or a torch file with tensors alone.

    Raises
    ------
    FormatError, NonFiniteError, ArchitectureError
        If the weights cannot be used.
    """
    if path is not None:
        weights = load_weights(Path(path), network)
        network.load_state_dict(weights.tensors)
        logger.info("weights of %s, sha256 %s", path, weights.sha256)
    return network


def _readable(path: Path) -> None:
    read_torch(path)
