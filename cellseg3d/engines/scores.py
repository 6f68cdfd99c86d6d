"""Scores of whole predicted volumes, as an Ignite metric over all processes."""

from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from monai.utils.enums import CommonKeys
from torch import Tensor

from cellseg3d.bundle.facts import ModelFacts
from cellseg3d.metrics.contingency import count_slices, total
from cellseg3d.metrics.overlap import class_counts, mean_defined

Table = dict[str, dict[str, float]]


class VolumeScores:
    """Dice of each class in each volume; voxels labelled 255 count nowhere.

    The metric's value is the mean over volumes and foreground classes of the Dice
    where it is defined; ``state.metric_details[name]`` holds the table. A volume that
    two processes share counts once.

    Parameters
    ----------
    facts : ModelFacts or mapping
        Names the classes.
    """

    def __init__(self, facts: ModelFacts | dict[str, Any]) -> None:
        self.classes = ModelFacts.parse(facts).classes
        self.table: Table = {}

    def attach(self, engine: Workflow, name: str) -> None:
        """Score every volume of an evaluator's epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compute, name)

    def add(self, case: str, predicted: Tensor, truth: Tensor) -> None:
        """Score one volume.

        Parameters
        ----------
        case : str
        predicted : tensor, shape (K, Z, Y, X) or (1, Z, Y, X)
            Logits or probabilities of K classes, or labels.
        truth : tensor, shape (1, Z, Y, X)
            Labels; 255 is not annotated.
        """
        labels = predicted.argmax(0) if predicted.shape[0] > 1 else predicted[0]
        tables = count_slices(_labels(labels), _labels(truth[0]))
        whole = [total(tables)]
        self.table[case] = {
            name: float(class_counts(whole, index)[0].dice)
            for index, name in enumerate(self.classes)
            if index > 0
        }

    @property
    def mean(self) -> float:
        """The metric's value."""
        scores = [score for row in self.table.values() for score in row.values()]
        return mean_defined(scores)[0]

    def _reset(self, _engine: Workflow) -> None:
        self.table = {}

    def _update(self, engine: Workflow) -> None:
        output, batch = engine.state.output, engine.state.batch
        names = batch.get("case", [])
        for row, predicted in enumerate(output[CommonKeys.PRED]):
            name = str(names[row]) if row < len(names) else str(len(self.table))
            self.add(name, predicted, output[CommonKeys.LABEL][row])

    def _compute(self, engine: Workflow, name: str) -> None:
        if idist.get_world_size() > 1:
            tables: list[Table] = [{}] * idist.get_world_size()
            torch.distributed.all_gather_object(tables, self.table)
            merged = {case: row for table in tables for case, row in table.items()}
            self.table = dict(sorted(merged.items()))
        engine.state.metrics[name] = self.mean
        engine.state.metric_details[name] = self.table


def _labels(values: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return values.detach().to(torch.uint8).cpu().numpy()
