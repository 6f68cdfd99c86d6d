"""The same chunk tasks on a Dask cluster: one chunk, one task, retried if it dies."""

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from cellseg3d.core.errors import CellSegError, EnvironmentFault
from cellseg3d.core.roi import Roi
from cellseg3d.parallel.dask_client import distributed_library, open_client
from cellseg3d.prediction.output.blockwise import Output, Runner, arrays_of
from cellseg3d.prediction.output.journal import checksum
from cellseg3d.prediction.output.store import Store
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.recipe import Recipe

_log = logging.getLogger(__name__)
# A task that fails is tried this often again; a worker that dies costs no try.
RETRIES = 2
_pipelines: dict[str, Pipeline] = {}


def dask_runner(address: str, recipe: Recipe, output: Output) -> Runner:
    """Return a runner that works on chunks on a Dask cluster.

    Each task sets up the same pipeline (once a process), reads what it needs, and
    writes its own chunk, so it may run twice and anywhere that sees the files.

    Parameters
    ----------
    address : str
        Of a scheduler, such as ``"tcp://host:8786"``, or ``"local:N"`` for N worker
        processes on this machine.
    recipe : Recipe
        With the number format settled, so that all machines compute alike.
    output : Output

    Raises
    ------
    EnvironmentFault
        If Dask is not installed, or the scheduler does not answer.
    """
    options = recipe.options
    sent = replace(recipe, options=replace(options, dask=None))

    def work(chunks: Sequence[Roi]) -> Iterator[tuple[Roi, int]]:
        distributed = distributed_library()
        # Workers that outlive this process must not take an earlier pipeline for it.
        key = uuid.uuid4().hex
        with open_client(address, one_thread) as client:
            # One copy a worker, however many chunks there are.
            shared = client.scatter((key, sent, output.stores), broadcast=True)
            futures = [
                client.submit(run_chunk, shared, chunk, retries=RETRIES, pure=False)
                for chunk in chunks
            ]
            for future in distributed.as_completed(futures):
                yield _result(future)

    return work


def run_chunk(shared: tuple[str, Recipe, tuple[Store, ...]], chunk: Roi) -> Any:  # noqa: ANN401
    """Segment one chunk and write it; return it with its checksum.

    Parameters
    ----------
    shared : tuple
        A name for the pipeline, the recipe, and where voxels go.
    chunk : Roi
    """
    key, recipe, stores = shared
    if key not in _pipelines:
        _pipelines.clear()
        _pipelines[key] = recipe.pipeline()
    arrays = arrays_of(_pipelines[key].run(chunk), stores)
    for store, array in zip(stores, arrays, strict=True):
        store.write(chunk, array)
    return chunk, checksum(*arrays)


def one_thread() -> None:
    """Let a worker process compute in one thread; there are many workers."""
    torch.set_num_threads(1)


def _result(future: Any) -> tuple[Roi, int]:  # noqa: ANN401
    try:
        chunk, known = future.result()
    except CellSegError:
        raise
    except Exception as error:
        message = f"a chunk failed {RETRIES + 1} times on Dask: {error}; run again"
        raise EnvironmentFault(message) from error
    return chunk, known
