"""Weights of a trained network, adapted to a network of other classes or channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cellseg3d.models.convolutions import TRANSPOSED


@dataclass(frozen=True)
class Adapted:
    """Weights that fit a new network, and what had to be changed for it.

    Parameters
    ----------
    tensors : dict of str to tensor
        As ``load_state_dict`` of the new network takes them.
    changed : tuple of str
        Names of the tensors whose shape differed.
    kept_classes : tuple of str
        Classes that both networks have; their rows of the last layer are kept.
    """

    tensors: dict[str, Tensor]
    changed: tuple[str, ...]
    kept_classes: tuple[str, ...]


def adapt_weights(
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    classes_before: Sequence[str],
    classes_now: Sequence[str],
) -> Adapted:
    """Fit the weights of one network to another of other classes or channels.

    Layers of equal shape take the weights as they are. In the layers that answer
    classes, the rows of classes of the same name are taken over and the others keep
    the new network's random start. A first layer that reads another number of
    channels begins so that an image repeated over the channels gives the same features
    as before: several times as many channels take the old weights again and again, so
    that each channel of a stack of slices keeps the order of its slices, and any other
    number takes the mean over the old channels for each new one.

    Parameters
    ----------
    tensors : mapping of str to tensor
        The trained weights.
    network : Module
        The new network, freshly built.
    classes_before, classes_now : sequence of str
        Class names by index of the trained and of the new network.

    Returns
    -------
    Adapted

    Raises
    ------
    ValueError
        If a layer differs in more than its classes or its image channels, or the two
        networks do not have the same layers; the message names the layer.

    Examples
    --------
    >>> old, new = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 3, 1)
    >>> names = ["background", "cell"], ["background", "nucleus", "cell"]
    >>> found = adapt_weights(old.state_dict(), new, *names)
    >>> bool((found.tensors["weight"][2] == old.weight[1]).all())
    True
    >>> found.kept_classes
    ('background', 'cell')
    """
    wanted = network.state_dict()
    strangers = sorted(set(wanted) ^ set(tensors))
    if strangers:
        message = f"layer {strangers[0]!r} is in one of the two networks alone"
        raise ValueError(message)
    kept = [name for name in classes_now if name in classes_before]
    rows = _Rows(
        len(classes_before),
        len(classes_now),
        [list(classes_before).index(name) for name in kept],
        [list(classes_now).index(name) for name in kept],
    )
    layers = dict(network.named_modules())
    adapted: dict[str, Tensor] = {}
    changed = []
    for name, new in wanted.items():
        old = tensors[name]
        if old.shape == new.shape:
            adapted[name] = old
            continue
        transposed = isinstance(layers.get(name.rpartition(".")[0]), TRANSPOSED)
        adapted[name] = _fitted(name, old, new, rows, transposed=transposed)
        changed.append(name)
    return Adapted(adapted, tuple(changed), tuple(kept))


@dataclass(frozen=True)
class _Rows:
    before: int
    now: int
    taken: list[int]
    put: list[int]


def _fitted(
    name: str, old: Tensor, new: Tensor, rows: _Rows, *, transposed: bool
) -> Tensor:
    if old.ndim != new.ndim:
        raise ValueError(_differs(name, old, new))
    differing = [
        axis
        for axis, (a, b) in enumerate(zip(old.shape, new.shape, strict=True))
        if a != b
    ]
    # A convolution's second axis is its input, a transposed one's its output.
    if differing == [1] and old.ndim > 2 and not transposed:
        before, now = old.shape[1], new.shape[1]
        if now % before == 0:
            tiles = (1, now // before, *(1,) * (old.ndim - 2))
            return old.repeat(tiles) * (before / now)
        if before % now == 0:
            grouped = old.reshape(len(old), before // now, *new.shape[1:])
            return grouped.sum(1)
        mean = old.mean(1, keepdim=True) * (before / now)
        return mean.expand(new.shape).clone()
    if any((old.shape[a], new.shape[a]) != (rows.before, rows.now) for a in differing):
        raise ValueError(_differs(name, old, new))
    result = new.detach().clone()
    source: Any = old
    for axis in differing:
        source = source.index_select(axis, torch.tensor(rows.taken))
    places = [
        torch.tensor(rows.put) if axis in differing else torch.arange(size)
        for axis, size in enumerate(new.shape)
    ]
    result[torch.meshgrid(*places, indexing="ij")] = source.to(result.dtype)
    return result


def _differs(name: str, old: Tensor, new: Tensor) -> str:
    return (
        f"layer {name!r} has shape {tuple(old.shape)} in the trained weights and "
        f"{tuple(new.shape)} in the new network"
    )
