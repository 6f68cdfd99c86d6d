"""Which samples an epoch draws, in one process or several, also after a stop."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from torch.utils.data import DataLoader, Sampler

from cellseg3d.core.errors import ConfigError
from cellseg3d.samples.loaders import SampleDataset
from cellseg3d.training.interrupt import SIGNALS


class ResumableOrder(Sampler[list[int]]):
    """The batches of an epoch in order; its first epoch may begin in the middle.

    The order needs no shuffling: each index of a `SampleDataset` is a random site.

    Parameters
    ----------
    samples : int
        Samples of this process in an epoch.
    batch_size : int
        A last batch that is not full is left out, unless it is the only one.
    """

    def __init__(self, samples: int, batch_size: int) -> None:
        if batch_size < 1 or samples < 1:
            message = (
                f"{samples} samples in batches of {batch_size}; expected 1 or more"
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
    """A loader without workers that draws the next batch while this one is used.

    Drawing takes a few percent of a step and torch leaves Python's lock for most of
    it. An epoch is never drawn before it begins.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches of an epoch; what drawing raises is raised here."""
        batches = super().__iter__()
        with ThreadPoolExecutor(1, "next-batch") as pool:
            coming = pool.submit(next, batches, None)
            while (batch := coming.result()) is not None:
                coming = pool.submit(next, batches, None)
                yield batch


class InWorkers(DataLoader[Any]):
    """A loader whose workers live through epochs, until it is closed."""

    def close(self) -> None:
        """End the workers: they ignore signals, so nothing else would in time."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]


def epoch_loader(
    dataset: SampleDataset, batch_size: int = 2, workers: int = 0
) -> DataLoader[Any]:
    """Return a loader whose batches `Epochs` can begin anywhere in an epoch.

    Parameters
    ----------
    dataset : SampleDataset
    batch_size : int
        Samples of a batch, of each process.
    workers : int
        Processes that draw samples; 0 draws in this one, one batch ahead in a thread.
        They live through epochs, and the batches are the same for any number.
    """
    kind: type[DataLoader[Any]] = InWorkers if workers else OneAhead
    return kind(
        dataset,
        batch_sampler=ResumableOrder(len(dataset), batch_size),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals if workers else None,
    )


def leave_signals(_worker: int) -> None:
    """Let the training alone act on SIGINT and SIGTERM: it still needs its workers.

    A terminal and a scheduler send them to every process; the step that is to be
    finished may wait for a sample. A worker ends with its training, however that ends.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Epochs:
    """Make every step a function of the seed and its number.

    Attach it first. Nothing that was drawn before an epoch, or before a stop, then
    matters: a resumed training draws what the uninterrupted one draws.

    Parameters
    ----------
    loader : DataLoader
        As `epoch_loader` returns it.
    seed : int
        Of what the network itself draws, such as dropout.
    """

    def __init__(self, loader: DataLoader[Any], seed: int = 0) -> None:
        self.loader = loader
        self.seed = seed

    def attach(self, engine: Workflow) -> None:
        """Act at the begin of each epoch and step of a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch)
        engine.add_event_handler(Events.ITERATION_STARTED, self._step)

    def _epoch(self, engine: Workflow) -> None:
        dataset, order = self.loader.dataset, self.loader.batch_sampler
        dataset.set_epoch(engine.state.epoch - 1)  # type: ignore[attr-defined]
        if isinstance(order, ResumableOrder):
            order.skip = engine.state.iteration % engine.state.epoch_length

    def _step(self, engine: Workflow) -> None:
        torch.manual_seed((self.seed * 1_000_003 + engine.state.iteration) % 2**63)
