"""Go on with less at a time when memory runs out."""

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
    """Yield what `PreparedNetwork.logits` yields; where memory runs out, go on.

    Each time half as many planes are computed together, from the first that is
    missing.

    Raises
    ------
    EnvironmentFault
        If not even one plane at a time fits.
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
                    f"a window of {list(window[1:])} pixels a plane does not fit into "
                    "memory; give a smaller window, or free memory"
                )
                raise EnvironmentFault(message) from error
            planes //= 2
            _log.warning("out of memory: going on with %d planes at a time", planes)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
        or "could not allocate" in text
    )
