"""Score whole predicted volumes during validation, also with several processes."""

from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from monai.utils.enums import CommonKeys
from numpy.typing import NDArray
from torch import Tensor

from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.core.ignore import IGNORE
from cellseg3d.metrics.components import label_components
from cellseg3d.metrics.contingency import count_slices, total
from cellseg3d.metrics.object_scores import match_objects, recall_by_size
from cellseg3d.metrics.overlap import class_counts, mean_defined

Table = dict[str, dict[str, float]]
Labels = NDArray[np.uint8]
Recall = dict[str, dict[str, list[dict[str, float | int | str]]]]
# The key of the recall in the details of a validation.
RECALL = "recall_by_size"
SIZES = ("small", "middle", "large")


class VolumeScores:
    """An Ignite metric: the Dice of each class in each volume.

    Voxels labelled 255 are left out. The metric's value is the mean of the defined Dice
    over volumes and foreground classes; ``state.metric_details[name]`` holds the table.
    A volume that two processes scored counts once.

    Parameters
    ----------
    facts : ModelFacts or mapping
        Names of the classes.
    """

    def __init__(self, facts: ModelFacts | dict[str, Any]) -> None:
        self.classes = ModelFacts.parse(facts).classes
        self.table: Table = {}
        self.recall: Recall = {}

    def attach(self, engine: Workflow, name: str) -> None:
        """Score every volume that an evaluator predicts."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compute, name)

    def add(self, case: str, predicted: Tensor, truth: Tensor) -> None:
        """Score one volume.

        Parameters
        ----------
        case : str
            Name of the volume.
        predicted : tensor, shape (K, Z, Y, X) or (1, Z, Y, X)
            Logits or probabilities of K classes, or class indices.
        truth : tensor, shape (1, Z, Y, X)
            Class indices; 255 is not annotated.
        """
        labels = predicted.argmax(0) if predicted.shape[0] > 1 else predicted[0]
        tables = count_slices(_labels(labels), _labels(truth[0]))
        whole = [total(tables)]
        self.table[case] = {
            name: float(class_counts(whole, index)[0].dice)
            for index, name in enumerate(self.classes)
            if index > 0
        }
        self.recall[case] = {
            name: recall_of(_labels(labels), _labels(truth[0]), index)
            for index, name in enumerate(self.classes)
            if index > 0
        }

    @property
    def mean(self) -> float:
        """The mean of the defined Dice over volumes and classes."""
        scores = [score for row in self.table.values() for score in row.values()]
        return mean_defined(scores)[0]

    def _reset(self, _engine: Workflow) -> None:
        self.table, self.recall = {}, {}

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
            recalls: list[Recall] = [{}] * idist.get_world_size()
            torch.distributed.all_gather_object(recalls, self.recall)
            self.recall = {case: row for each in recalls for case, row in each.items()}
        engine.state.metrics[name] = self.mean
        engine.state.metric_details[name] = self.table
        engine.state.metric_details[RECALL] = self.recall


def recall_of(
    predicted: Labels, truth: Labels, index: int
) -> list[dict[str, float | int | str]]:
    """Return the share of a class's connected pieces that were found, by their size.

    A piece is found if a predicted piece has an intersection over union (IoU) above .5
    with it. The true pieces are divided into thirds by their size in voxels: small,
    middle and large. If there are fewer than three different sizes, all pieces are in
    one row.

    Parameters
    ----------
    predicted, truth : ndarray of uint8, shape (Z, Y, X)
        Class indices; voxels where `truth` is 255 are left out.
    index : int
        The class.

    Returns
    -------
    list of dict
        For each size: ``size``, ``to`` (largest size in voxels), ``n`` (number of true
        pieces) and ``recall``.
    """
    mask = (predicted == index) & (truth != IGNORE)
    match = match_objects(label_components(mask), label_components(truth == index))
    several = len(np.unique(match.true_sizes)) >= len(SIZES)
    rows = recall_by_size(match, None if several else ())
    names = SIZES if several else ("all",)
    return [
        {"size": name, "to": row["to"], "n": row["n"], "recall": row["recall"]}
        for name, row in zip(names, rows, strict=True)
    ]


def _labels(values: Tensor) -> Labels:
    return values.detach().to(torch.uint8).cpu().numpy()
