"""Start an encoder from torchvision's published ImageNet weights."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cellseg3d.core.errors import ConfigError, FormatError
from cellseg3d.models.checkpoint import check_names, load_weights
from cellseg3d.models.padded import PaddedNetwork

_URL = "https://download.pytorch.org/models/"
_log = logging.getLogger(__name__)


def load_imagenet(
    network: nn.Module,
    file: Path | None,
    *,
    sha256: str | None = None,
    colour: bool = False,
) -> str:
    """Load torchvision's weights into a VGG-16 or GoogLeNet encoder.

    Parameters
    ----------
    network : Module
        A ``"vgg16_unet"`` or ``"googlenet_fcn"`` of `build_network`, changed in place.
    file : Path or None
        The published ``state_dict``; None keeps the encoder's random weights.
    sha256 : str, optional
        Start of the file's SHA-256; by default the one in its published name.
    colour : bool
        Whether the three input channels are red, green and blue. Otherwise the input is
        grey: the filters of the three colours are summed and spread over the slices.

    Returns
    -------
    str
        A sentence that says what was done; it is also logged.

    Raises
    ------
    ConfigError
        If the network has no such encoder.
    FormatError
        If the file's hash is not the published one, or the file cannot be read.
    ArchitectureError
        If names or shapes differ from the encoder's.
    """
    inner = encoder_of(network)
    published = str(inner.imagenet_file)
    if file is None:
        said = (
            f"{type(inner).__name__}: no pretrained weights given, the encoder trains "
            f"from scratch; {_URL}{published} has those of ImageNet"
        )
        _log.warning(said)
        return said
    wanted = sha256 or published.rpartition("-")[2].removesuffix(".pth")
    found = _file_sha256(file)
    if not found.startswith(wanted):
        message = (
            f"{file}: its SHA-256 begins with {found[: len(wanted)]}, that of "
            f"torchvision's {published} with {wanted}; download it again from {_URL}"
        )
        raise FormatError(message)
    own = {
        name: tensor
        for name, tensor in inner.state_dict().items()
        if name.startswith(tuple(inner.imagenet_prefixes))
    }
    tensors = _encoder_tensors(load_weights(file).tensors, own, inner.imagenet_ignored)
    stem = str(inner.imagenet_stem)
    if stem in tensors:
        tensors[stem] = _for_channels(tensors[stem], own[stem].shape[1], colour=colour)
    check_names(file, tensors, own)
    inner.load_state_dict(tensors, strict=False)
    said = f"{type(inner).__name__}: encoder starts from {published} ({found[:12]})"
    _log.info(said)
    return said


def has_imagenet_encoder(network: nn.Module) -> bool:
    """Return whether a network has an encoder for `load_imagenet`."""
    inner = network.network if isinstance(network, PaddedNetwork) else network
    return hasattr(inner, "imagenet_file")


def drop_encoder_gradients(network: nn.Module) -> None:
    """Remove the gradients of every ImageNet encoder, so a step does not change it.

    Unlike ``requires_grad``, this may change while several processes train.
    """
    for module in network.modules():
        prefixes = tuple(getattr(module, "imagenet_prefixes", ()))
        for name, parameter in module.named_parameters() if prefixes else ():
            if name.startswith(prefixes):
                parameter.grad = None


def encoder_of(network: nn.Module) -> Any:  # noqa: ANN401 - either of two networks
    """Return the network, without padding, that has the encoder.

    Raises
    ------
    ConfigError
        If it has none.
    """
    if not has_imagenet_encoder(network):
        message = (
            "pretrained ImageNet weights are for vgg16_unet and googlenet_fcn; this is "
            f"a {type(network).__name__}"
        )
        raise ConfigError(message)
    return network.network if isinstance(network, PaddedNetwork) else network


def _encoder_tensors(
    tensors: dict[str, Tensor], own: dict[str, Tensor], ignored: Iterable[str]
) -> dict[str, Tensor]:
    """Return the file's tensors without classifiers and counters."""
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if name in own or not name.startswith(tuple(ignored))
    }
    for name, tensor in own.items():
        # Older files lack these batch counters, which have no effect here.
        if name.endswith("num_batches_tracked"):
            kept.setdefault(name, tensor)
    return kept


def _for_channels(weight: Tensor, channels: int, *, colour: bool) -> Tensor:
    if colour and weight.shape[1] == channels:
        return weight
    grey = weight.sum(1, keepdim=True)
    return torch.cat([grey / channels] * channels, dim=1)


def _file_sha256(path: Path) -> str:
    if not path.is_file():
        message = f"{path}: no such file; expected torchvision's published weights"
        raise FormatError(message)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
