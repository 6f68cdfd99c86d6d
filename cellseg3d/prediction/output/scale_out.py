"""Run the chunks of a segmentation on a Dask cluster.

Each chunk is one task, which is retried if it fails or its worker dies.
"""

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from cellseg3d.core.errors import CellSegError, EnvironmentFault
from cellseg3d.core.roi import Roi
from cellseg3d.parallel.dask_client import distributed_library, open_client
from cellseg3d.prediction.output.blockwise import Output, Runner, finished
from cellseg3d.prediction.output.journal import Finished
from cellseg3d.prediction.output.store import Store
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.recipe import Recipe

_log = logging.getLogger(__name__)
# A task that fails is tried this many times more. A worker's death does not count.
RETRIES = 2
_pipelines: dict[str, Pipeline] = {}


def dask_runner(address: str, recipe: Recipe, output: Output) -> Runner:
    """Return a runner that computes chunks on a Dask cluster.

    Each task reads what it needs and writes its own chunk. It may run twice, and on any
    machine that sees the files. Each process sets up the pipeline once.

    Parameters
    ----------
    address : str
        Address of a scheduler, such as ``"tcp://host:8786"``, or ``"local:N"`` for N
        worker processes on this machine.
    recipe : Recipe
        The segmentation. Its number format should be fixed, so that all machines
        compute alike.
    output : Output

    Raises
    ------
    EnvironmentFault
        If Dask is not installed, or the scheduler does not answer.
    """
    options = recipe.options
    sent = replace(recipe, options=replace(options, dask=None))

    def work(chunks: Sequence[Roi]) -> Iterator[Finished]:
        distributed = distributed_library()
        # Workers outlive this process, so an earlier pipeline must have another key.
        key = uuid.uuid4().hex
        with open_client(address, one_thread) as client:
            # Each worker gets one copy, however many chunks there are.
            shared = client.scatter((key, sent, output.stores), broadcast=True)
            futures = [
                client.submit(run_chunk, shared, chunk, retries=RETRIES, pure=False)
                for chunk in chunks
            ]
            for future in distributed.as_completed(futures):
                yield _result(future)

    return work


def run_chunk(shared: tuple[str, Recipe, tuple[Store, ...]], chunk: Roi) -> Finished:
    """Segment one chunk and write it; return it with its checksum, without its voxels.

    Parameters
    ----------
    shared : tuple
        The key of the pipeline, its recipe, and the stores to write to.
    chunk : Roi
    """
    key, recipe, stores = shared
    if key not in _pipelines:
        _pipelines.clear()
        _pipelines[key] = recipe.pipeline()
    found = finished(chunk, _pipelines[key].run(chunk), stores)
    for store, array in zip(stores, found.arrays or (), strict=True):
        store.write(chunk, array)
    return replace(found, arrays=None)


def one_thread() -> None:
    """Let a worker process compute in one thread, because there are many workers."""
    torch.set_num_threads(1)


def _result(future: Any) -> Finished:  # noqa: ANN401
    try:
        found: Finished = future.result()
    except CellSegError:
        raise
    except Exception as error:
        message = (
            f"a chunk failed {RETRIES + 1} times on Dask: {error}; look into the "
            "workers' logs and run again, which keeps the finished chunks"
        )
        raise EnvironmentFault(message) from error
    return found
