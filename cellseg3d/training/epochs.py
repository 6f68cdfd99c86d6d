"""Load the batches of each epoch, the same ones for any number of worker processes."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from torch.utils.data import DataLoader, Sampler

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.processes import is_alive
from cellseg3d.samples.loaders import SampleDataset
from cellseg3d.training.interrupt import SIGNALS

# How often a worker looks whether its parent lives.
_LOOK_S = 0.5


class ResumableOrder(Sampler[list[int]]):
    """The batches of an epoch in order; after a resume, the first batches are skipped.

    Shuffling is not needed, because each index of a `SampleDataset` is a random sample.

    Parameters
    ----------
    samples : int
        Number of samples of this process in an epoch.
    batch_size : int
        Number of samples in a batch. A last batch that is not full is left out, unless
        it is the only one.
    """

    def __init__(self, samples: int, batch_size: int) -> None:
        if batch_size < 1 or samples < 1:
            message = (
                f"an epoch has {samples} samples in batches of {batch_size}; "
                "expected 1 or more of both"
            )
            raise ConfigError(message)
        self.samples = samples
        self.batch_size = min(batch_size, samples)
        self.skip = 0

    def __len__(self) -> int:
        return self.samples // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        first, self.skip = self.skip, 0
        for number in range(first, len(self)):
            begin = number * self.batch_size
            yield list(range(begin, begin + self.batch_size))


class OneAhead(DataLoader[Any]):
    """A loader without worker processes that draws the next batch in a thread.

    Drawing takes a few percent of a step, and torch releases Python's lock for most of
    it. Batches of the next epoch are not drawn before that epoch begins.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches of an epoch; errors of the thread are raised here."""
        batches = super().__iter__()
        with ThreadPoolExecutor(1, "next-batch") as pool:
            coming = pool.submit(next, batches, None)
            while (batch := coming.result()) is not None:
                coming = pool.submit(next, batches, None)
                yield batch


class InWorkers(DataLoader[Any]):
    """A loader whose worker processes stay alive between epochs, until it is closed."""

    def close(self) -> None:
        """End the workers; since they ignore signals, they do not end otherwise."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]


def epoch_loader(
    dataset: SampleDataset, batch_size: int = 2, workers: int = 0
) -> DataLoader[Any]:
    """Return a loader that `Epochs` can start at any batch of an epoch.

    Parameters
    ----------
    dataset : SampleDataset
        Where the samples come from.
    batch_size : int
        Number of samples in a batch of each process.
    workers : int
        Number of worker processes that draw samples. With 0, this process draws the
        next batch in a thread. The batches do not depend on the number.
    """
    kind: type[DataLoader[Any]] = InWorkers if workers else OneAhead
    return kind(
        dataset,
        batch_sampler=ResumableOrder(len(dataset), batch_size),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_begin_worker if workers else None,
    )


def leave_signals(_worker: int) -> None:
    """Ignore SIGINT and SIGTERM in a worker, so that only the training acts on them.

    A terminal and a scheduler send these signals to every process. The training
    finishes its step before it stops, and may need another sample for that. A worker
    ends when its training ends.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _begin_worker(worker: int) -> None:
    leave_signals(worker)
    end_with_parent()


def end_with_parent() -> None:
    """End this worker within a second of the death of the process that began it.

    A worker of PyTorch looks for its parent only when it waits for work, so that it
    would go on for the length of a batch, and longer while its results wait.
    """
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    threading.Thread(
        target=_end_after, args=(parent.pid, time.time()), daemon=True
    ).start()


def _end_after(parent: int, began: float) -> None:
    while is_alive(parent, began):
        time.sleep(_LOOK_S)
    os._exit(1)  # nobody reads its results, and its threads may wait for ever


class Epochs:
    """Seed every epoch and step, so that a resumed training draws the same samples.

    The random numbers of a step then depend only on the seed and the number of the
    step. Attach this handler first.

    Parameters
    ----------
    loader : DataLoader
        The loader that `epoch_loader` returned.
    seed : int
        Seed of the network's own random numbers, such as those of dropout.
    """

    def __init__(self, loader: DataLoader[Any], seed: int = 0) -> None:
        self.loader = loader
        self.seed = seed

    def attach(self, engine: Workflow) -> None:
        """Act at the beginning of each epoch and step of a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch)
        engine.add_event_handler(Events.ITERATION_STARTED, self._step)

    def _epoch(self, engine: Workflow) -> None:
        dataset, order = self.loader.dataset, self.loader.batch_sampler
        dataset.set_epoch(engine.state.epoch - 1)  # type: ignore[attr-defined]
        if isinstance(order, ResumableOrder):
            order.skip = engine.state.iteration % engine.state.epoch_length

    def _step(self, engine: Workflow) -> None:
        torch.manual_seed((self.seed * 1_000_003 + engine.state.iteration) % 2**63)
