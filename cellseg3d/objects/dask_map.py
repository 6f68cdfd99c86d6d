"""Cut blocks into objects on the workers of a Dask cluster."""

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellseg3d.objects.label import BlockMap

# A volume that is read lazily travels with each task, so that no worker's death can
# lose it; one in memory is sent once.
SMALL_BYTES = 1 << 20
AHEAD = 4  # Blocks in flight for each worker thread: enough to keep it busy.


def dask_map(client: Any) -> "BlockMap":  # noqa: ANN401
    """Return a ``map`` that runs on a cluster, in order, few blocks at a time.

    Parameters
    ----------
    client : distributed.Client
        Whose workers can read the volume: what is mapped travels to them.

    Returns
    -------
    callable
        For ``label_objects(..., map_blocks=...)``. A block whose worker dies is
        given to another one, as the scheduler does with any pure task.
    """

    def run(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        shared = function
        if len(pickle.dumps(function)) > SMALL_BYTES:
            shared = client.scatter(function, broadcast=True, hash=False)
        threads = max(1, sum(client.nthreads().values()))
        running: deque[Any] = deque()
        for item in items:
            running.append(client.submit(_call, shared, item, pure=False))
            if len(running) == AHEAD * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    return run


def _call(function: Callable[[Any], Any], item: Any) -> Any:  # noqa: ANN401
    return function(item)
