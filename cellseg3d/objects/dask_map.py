"""Process blocks on the workers of a Dask cluster."""

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellseg3d.objects.label import BlockMap

# A function up to this size, such as one that reads a file, is sent with each task, so
# that it is not lost if a worker dies. A larger one, with a volume in memory, is sent
# to all workers once.
SMALL_BYTES = 1 << 20
AHEAD = 4  # This many blocks are submitted for each worker thread, to keep it busy.


def dask_map(client: Any) -> "BlockMap":  # noqa: ANN401
    """Return a function like ``map`` that runs on a cluster and keeps the order.

    Parameters
    ----------
    client : distributed.Client
        A client of the cluster, whose workers must be able to read the volume's file.

    Returns
    -------
    callable
        The argument `map_blocks` of `label_objects`. If a worker dies, the scheduler
        gives its blocks to another one.
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
