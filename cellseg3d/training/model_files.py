"""Write a training's weights with classes and spacing; read weights to start from."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from torch import Tensor, nn

from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.shipped import WEIGHTS
from cellseg3d.core.atomic import atomic_write
from cellseg3d.models.checkpoint import (
    ArchitectureError,
    Weights,
    load_weights,
    read_torch,
    save_weights,
)
from cellseg3d.models.fine_tuning import adapt_weights
from cellseg3d.models.padded import PaddedNetwork
from cellseg3d.models.recipes.imagenet import has_imagenet_encoder, load_imagenet
from cellseg3d.training.average import plain_network

logger = logging.getLogger(__name__)
LAST = "last.safetensors"
# MONAI's own tools (load, ckpt_export, CheckpointLoader) read only this name.
MONAI_WEIGHTS = "model.pt"


class ModelFiles:
    """Write the best and the last weights of a training.

    ``model.safetensors`` holds the best weights (without validation, the last ones)
    with a hash, the classes and the spacing. ``model.pt`` is a copy for MONAI's tools,
    a plain state dict. ``last.safetensors`` holds the last weights.

    Parameters
    ----------
    folder : str or Path
        The bundle's ``models/`` folder.
    network : Module
        The network to save, such as the averaged one.
    facts : ModelFacts or mapping
        Classes, spacing and unit of the training data.
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
        """Write the last weights when a training ends; attach this after validation."""
        engine.add_event_handler(Events.COMPLETED, self.save)

    def save(self, engine: Workflow) -> None:
        """Write the present weights as the last, and as the model if none is best."""
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
        """Return whether a best model has been written."""
        return {"has_best": self.has_best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self.has_best = bool(state["has_best"])

    def _write(self, name: str, iteration: int, score: float | None) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        metadata = {
            "facts": self.facts.as_dict(),
            "iteration": int(iteration),
            "score": score,
        }
        return save_weights(self.folder / name, self.network.state_dict(), metadata)


def load_pretrained(
    network: nn.Module,
    path: str | Path | None,
    sha256: str | None = None,
    facts: ModelFacts | Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return the network with the weights of a file; unchanged without a file.

    A network with a VGG or GoogLeNet encoder also takes the weights that torchvision
    publishes for this encoder, trained on ImageNet. The rest of the network then starts
    from random weights. Without a file, a line in the log says that the encoder starts
    from random weights too.

    Parameters
    ----------
    network : Module
        The network, whose weights are replaced.
    path : str or Path, optional
        A ``.safetensors`` file, or a torch file that holds only tensors.
    sha256 : str, optional
        First digits of the SHA-256 of an ImageNet file, if it is not the published one.
    facts : ModelFacts or mapping, optional
        The classes to learn. If given, weights for other classes or another number of
        image channels are adapted; otherwise they are refused.

    Raises
    ------
    FormatError, NonFiniteError, ArchitectureError
        If the weights cannot be used.
    """
    encoders = imagenet_encoders(network)
    if path is None:
        if encoders:
            load_imagenet(encoders[0], None)
        return network
    file = Path(path)
    if encoders and file.suffix != ".safetensors" and not _own(file, network):
        for encoder in encoders:
            load_imagenet(encoder, file, sha256=sha256)
        return network
    weights = load_weights(file, None if facts else network)
    tensors: Mapping[str, Tensor] = weights.tensors
    if facts is not None:
        tensors = _adapted(weights, network, ModelFacts.parse(facts))
    network.load_state_dict(tensors)
    logger.info("loaded the weights of %s, sha256 %s", path, weights.sha256)
    return network


def _adapted(
    weights: Weights, network: nn.Module, facts: ModelFacts
) -> Mapping[str, Tensor]:
    """Adapt trained weights to the classes and channels of another network."""
    trained = weights.metadata.get("facts")
    before = facts if trained is None else ModelFacts.parse(trained)
    try:
        found = adapt_weights(weights.tensors, network, before.classes, facts.classes)
    except ValueError as error:
        message = (
            f"{weights.path}: {error}; train without these weights, or give the "
            "network the settings of their training"
        )
        raise ArchitectureError(message) from error
    new = [name for name in facts.classes if name not in found.kept_classes]
    if found.changed and new:
        logger.info("these classes start from random weights: %s", ", ".join(new))
    return found.tensors


def imagenet_encoders(network: nn.Module) -> list[nn.Module]:
    """Return the parts of a network that can start from weights of ImageNet."""
    return [
        part
        for part in network.modules()
        if has_imagenet_encoder(part) and not isinstance(part, PaddedNetwork)
    ]


def _own(file: Path, network: nn.Module) -> bool:
    """Return whether a file holds weights of the network itself, judged by names."""
    return not set(load_weights(file).tensors).isdisjoint(network.state_dict())


def _readable(path: Path) -> None:
    read_torch(path)
