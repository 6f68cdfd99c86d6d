"""Find the filters that respond most inside an object compared with outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cellseg3d.core.axes import axis_index
from cellseg3d.explanation.crop import SLICES, Crop, module_of
from cellseg3d.models.prepared import stack_slices


@dataclass(frozen=True)
class Filter:
    """How a filter responds to an object.

    Parameters
    ----------
    layer : str
        The layer's name in the network.
    number : int
        The filter's number in the layer, from 0.
    depth, layers : int
        The layer's place among those that were run, from 1, and how many there are.
    contrast : float
        Its mean response inside the object less that outside, in standard deviations
        of its response in the crop.
    picture : ndarray of float32, shape (y, x)
        Its response in the object's largest slice, at the layer's resolution.
    """

    layer: str
    number: int
    depth: int
    layers: int
    contrast: float
    picture: NDArray[np.float32]


def strongest_filters(crop: Crop, top: int) -> list[Filter]:
    """Return the filters of each layer with the highest contrast, layer by layer.

    The network is the first of the pipeline. Of a 2D or 2.5D network, the slices of the
    crop are shown one after another.

    Parameters
    ----------
    crop : Crop
    top : int
        How many filters of each layer are returned.
    """
    source = crop.pipeline.sources[0]
    network = module_of(source)
    axis = source.lattice.axis
    inputs, inside = crop.image[None], crop.inside[None]
    if axis is not None:
        across = axis_index(axis)
        context = source.use.spec.context
        slices = crop.image.movedim(across + 1, 1)
        pads = [*[slices[:, :1]] * context, slices, *[slices[:, -1:]] * context]
        inputs = stack_slices(torch.cat(pads, 1), context)
        inside = crop.inside.movedim(across, 0)
    sizes = inside.flatten(1).sum(1)
    shown = int(sizes.argmax())
    found: list[Filter] = []
    with torch.no_grad(), _watched(network) as answers:
        if axis is None:
            network(inputs)
        else:
            # The slices that show the object, the largest one first.
            first = max(0, min(shown - SLICES // 2, len(inputs) - SLICES))
            network(inputs[first : first + SLICES])
            inside = inside[first : first + SLICES]
            shown -= first
    for depth, (layer, response) in enumerate(answers.items(), start=1):
        place = (layer, depth, len(answers))
        found += _ranked(place, response, inside, shown)[:top]
    return found


@contextmanager
def _watched(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Keep what each convolution of a network answers in this block."""
    answers: dict[str, Tensor] = {}
    hooks = []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):

            def keep(_: Any, __: Any, answer: Tensor, name: str = name) -> None:  # noqa: ANN401
                answers[name] = answer.detach()

            hooks.append(layer.register_forward_hook(keep))
    try:
        yield answers
    finally:
        for hook in hooks:
            hook.remove()


def _ranked(
    place: tuple[str, int, int], response: Tensor, inside: Tensor, shown: int
) -> list[Filter]:
    """Return the filters of a layer, those of the highest contrast first."""
    share = inside[:, None].float()
    deep = response.ndim == 5
    size = response.shape[2:]
    if deep:
        weight = functional.adaptive_avg_pool3d(share, (size[0], size[1], size[2]))
    else:
        weight = functional.adaptive_avg_pool2d(share, (size[0], size[1]))
    total = weight.sum()
    rest = (1 - weight).sum()
    if float(total) <= 0 or float(rest) <= 0 or len(weight) != len(response):
        return []
    dims = [0, *range(2, response.ndim)]
    within = (response * weight).sum(dims) / total
    outside = (response * (1 - weight)).sum(dims) / rest
    spread = response.std(dims).clamp_min(1e-6)
    contrast = (within - outside) / spread
    found = []
    for number in contrast.argsort(descending=True).tolist():
        own = response[:, number]
        if deep:
            slices = weight[0, 0].sum((1, 2))
            picture = own[0, int(slices.argmax())]
        else:
            picture = own[shown]
        layer, depth, layers = place
        stated = round(float(contrast[number]), 3)
        found.append(Filter(layer, number, depth, layers, stated, picture.numpy()))
    return found
