"""Train and predict with this package through its command line, as a user does."""

import json
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cellseg3d.benchmark.curve import CURVE, Snapshot, read_snapshots
from cellseg3d.benchmark.dataset import WrittenFold
from cellseg3d.benchmark.outcome import Predicted, Trained, read_facts
from cellseg3d.benchmark.process import Cost, run_verb
from cellseg3d.benchmark.snapshots import FOLDER
from cellseg3d.benchmark.study import Budget, Method
from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.resolve import resolve_config
from cellseg3d.bundle.shipped import MODELS, find_bundle
from cellseg3d.core.clock import CLOCKS
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Case
from cellseg3d.io.registry import write_labels
from cellseg3d.models.checkpoint import load_weights
from cellseg3d.planning.machine import measure_step, this_machine
from cellseg3d.planning.plan import BUNDLES, make_plans
from cellseg3d.planning.survey import survey
from cellseg3d.prediction.segment import segment
from cellseg3d.runs.data_facts import facts_of_datalist
from cellseg3d.runs.record import NAME as RUN_RECORD

LOG = "log.txt"
MODEL = "model"
SNAPSHOTS = "cellseg3d.benchmark.snapshots.Snapshots"


def train_bundle(
    method: Method, fold: WrittenFold, budget: Budget, folder: Path
) -> Trained:
    """Train a bundle on all but the held-out cases of a fold.

    Parameters
    ----------
    method : Method
    fold : WrittenFold
    budget : Budget
    folder : Path
        The folder of the job; the run is written into its subfolder ``model``.

    Raises
    ------
    CellSegError
        If the training fails.
    """
    run = folder / MODEL
    words = ["train", "--bundle", method.bundle, "--data", str(fold.path)]
    words.append("--from-scratch")
    words += ["--fold", "none"]
    words += ["--minutes", str(budget.minutes), "--seed", str(budget.seed)]
    words += ["--out", str(run), "--quiet", *method.train]
    settings: dict[str, Any] = {"lr_scheduler::clock": budget.clock}
    if fold.validation:
        settings["train::handlers"] = _with_snapshots(method.bundle)
        words += ["--trust", SNAPSHOTS]
    if method.plan:
        settings |= planned(method.bundle, fold, budget)
    for key, value in {**settings, **method.settings}.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    cost = run_verb(words, folder / LOG)
    record = read_facts(run / RUN_RECORD)
    return Trained(
        cost=cost,
        steps=int(record["iteration"]),
        voxels=int(record["iteration"]) * _voxels_in_step(run),
        parameters=parameters_of(run),
        warnings=tuple(w for w in record["warnings"] if "no validation" not in w),
        versions=record["versions"],
    )


def _with_snapshots(bundle: str) -> list[Any]:
    """Return the handlers of a bundle's training, and one that keeps weights."""
    config = resolve_config(find_bundle(bundle) / "configs" / "train.json")
    keeper = {
        "_target_": SNAPSHOTS,
        "model_files": "@train::model_files",
        "schedule": "@lr_scheduler",
    }
    return [*config["train"]["handlers"], keeper]


def _voxels_in_step(run: Path) -> int:
    """Return the number of voxels whose labels one step of a run sees."""
    config = read_config(run / "configs" / "train.json")
    answered = replace(InputSpec.parse(config["spec"]), context=0).patch_zyx()
    return math.prod(answered) * int(config["train"]["dataloader"]["batch_size"])


def curve_bundle(
    run: Path, fold: WrittenFold, folder: Path
) -> Sequence[tuple[Snapshot, dict[str, str]]]:
    """Predict the validation cases with each of the weights that a training kept.

    Returns
    -------
    sequence of (Snapshot, dict)
        With each snapshot the path of the label file of each case.
    """
    trained = load_model(run)
    found = []
    for number, kept in enumerate(read_snapshots(run / MODELS / FOLDER)):
        weights = load_weights(kept.weights, trained.network)
        network = deepcopy(trained.network)
        network.load_state_dict(weights.tensors)
        model = replace(trained, network=network, sha256=weights.sha256)
        place = folder / CURVE / str(number)
        place.mkdir(parents=True, exist_ok=True)
        labels = {
            case.name: str(place / f"{case.name}.tif") for case in fold.validation
        }
        for case in fold.validation:
            write_labels(
                Path(labels[case.name]), segment(case.open_image(), model).labels
            )
        found.append((kept, labels))
    return found


def planned(bundle: str, fold: WrittenFold, budget: Budget) -> dict[str, Any]:
    """Return the numbers that `cellseg3d plan --minutes` chooses for a fold.

    The length of the training is left out, because the budget decides it.
    """
    seen = survey(fold.datalist)
    facts = facts_of_datalist(fold.datalist)
    [kind] = [kind for kind, name in BUNDLES.items() if name == bundle]
    measure = partial(measure_step, clock=CLOCKS[budget.clock])
    [plan] = make_plans(facts, seen, this_machine(), measure, [kind], budget.minutes)
    return {key: value for key, value in plan.settings.items() if key != "epochs"}


def predict_bundles(
    method: Method, runs: Sequence[Path], fold: WrittenFold, folder: Path
) -> Predicted:
    """Predict the held-out cases with one trained network, or several fused.

    Raises
    ------
    CellSegError
        If the prediction fails.
    """
    labels: dict[str, str] = {}
    costs, elapsed_s = [], 0.0
    for number, cases in enumerate(_by_spacing(fold.tests)):
        report = folder / f"predict{number}.json"
        words = ["predict", *(case.image for case in cases)]
        for run in runs:
            words += ["--bundle", str(run)]
        words += ["--out", str(folder / f"labels{number}"), "--json", str(report)]
        words += ["--axes", method.axes] if method.axes else []
        words += [*_spacing_words(cases[0].spacing), "--overwrite", *method.predict]
        costs.append(run_verb(words, folder / LOG))
        done = {each["volume"]: each for each in read_facts(report)["volumes"]}
        labels |= {case.name: done[case.image]["labels"] for case in cases}
        elapsed_s += sum(each["elapsed_s"] for each in done.values())
    return Predicted(total(costs), labels, elapsed_s)


def total(costs: Sequence[Cost]) -> Cost:
    """Return the cost of commands that ran one after another."""
    return Cost(
        sum(cost.elapsed_s for cost in costs),
        sum(cost.cpu_s for cost in costs),
        max(cost.peak_gib for cost in costs),
    )


def parameters_of(run: Path) -> int:
    """Return the number of trained parameters of a run's network."""
    network = load_model(run).network
    return sum(each.numel() for each in network.parameters())


def _by_spacing(cases: Sequence[Case]) -> list[list[Case]]:
    """Return the cases in groups of equal spacing; each group needs one command."""
    groups: dict[Spacing | None, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.spacing, []).append(case)
    return list(groups.values())


def _spacing_words(spacing: Spacing | None) -> list[str]:
    return [] if spacing is None else ["--spacing-um", *map(str, spacing.zyx)]
