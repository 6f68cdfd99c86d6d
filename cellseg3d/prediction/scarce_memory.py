"""Compute fewer planes at a time when memory runs out."""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.roi import Zyx
from cellseg3d.models.prepared import Keep, PreparedNetwork, Read

_log = logging.getLogger(__name__)


def logits_in_scarce_memory(
    network: PreparedNetwork, read: Read, window: Zyx, keep: Keep, planes: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield what `PreparedNetwork.logits` yields, even when memory is short.

    Each time that memory runs out, half as many planes are computed together, from the
    first missing plane on. The parameters are those of `PreparedNetwork.logits`.

    Raises
    ------
    EnvironmentFault
        If not even one plane at a time fits into memory.
    """
    along, height, width = keep
    first = along.start
    while first < along.stop:
        rest = (slice(first, along.stop), height, width)
        try:
            for low, logits in network.logits(read, window, rest, planes):
                yield low, logits
                first = low + logits.shape[1]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if planes == 1:
                message = (
                    f"one plane of {list(window[1:])} pixels does not fit into memory; "
                    "set a smaller window::core in the bundle's config, or free memory"
                )
                raise EnvironmentFault(message) from error
            planes //= 2
            _log.warning(
                "memory ran out; the prediction goes on with %d planes at a time",
                planes,
            )


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out, on any device."""
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
        or "could not allocate" in text
    )
