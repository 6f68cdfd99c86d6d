"""Ship the weights of a training: store them in half precision and write the record.

The record and the pictures are what the model card is made from.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.confidence import KEY as CONFIDENCE
from cellseg3d.bundle.model import TrainedModel
from cellseg3d.bundle.shipped import weights_file
from cellseg3d.bundle.shipped_record import record_path
from cellseg3d.bundle.windows import read_windows
from cellseg3d.calibration.window import settle_window
from cellseg3d.core.atomic import write_text
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.likeness import profile_of, volume_features
from cellseg3d.datasets.volumes import load_fold
from cellseg3d.io.registry import read_volume
from cellseg3d.models.checkpoint import load_weights, save_weights
from cellseg3d.prediction.tune_objects import kept_decoder, tune_run
from cellseg3d.runs.record import git_commit, machine, versions
from cellseg3d.weights.confidence import confidence_of
from cellseg3d.weights.pictures import best_and_worst, draw_triple
from cellseg3d.weights.recipe import WeightsRecipe
from cellseg3d.weights.scores import (
    Score,
    Shown,
    model_of,
    predicted,
    robustness,
    score_parts,
    summaries,
)
from cellseg3d.weights.training import Part

logger = logging.getLogger(__name__)
# Half precision may change at most this share of the labels.
MOST_CHANGED = 1e-4
# What the names of trainings begin with whose weights a later one began with.
BEFORE = "before, "
# The number of volumes on which half precision is compared.
COMPARED = 2
# The side, in voxels, of the cubes on which decoders are tuned.
TUNED_SIDE = 96


def ship(
    recipe: WeightsRecipe,
    parts: Sequence[Part],
    datalist: Path,
    bundle: Path,
    checkout: Path,
    *,
    refined: bool = False,
) -> Path:
    """Score the trainings, put the final weights into the bundle and write the record.

    Parameters
    ----------
    recipe : WeightsRecipe
    parts : sequence of Part
        The trainings. The first is the one on all volumes, and has weights.
    datalist : Path
        The datalist of the prepared data set.
    bundle : Path
        The folder of the bundle.
    checkout : Path
        The folder that holds ``benchmarks/records``.
    refined : bool
        Whether the final training began with the weights that the bundle shipped. The
        trainings in their record are then kept in the new one.

    Returns
    -------
    Path
        The file of the record.
    """
    final = parts[0]
    path = record_path(checkout, recipe.name)
    cases = load_datalist(datalist)
    _calibrate(final, datalist)
    if recipe.target != "classes":
        for part in parts:
            _tune(part, datalist)
    scores, shown = score_parts(recipe, parts, datalist)
    model = model_of(final, recipe)
    profile = _profile(model, cases)
    weights = _put_weights(model, final, recipe, cases, bundle, profile)
    data_sets = read_config(checkout / "configs" / "data_sets.yaml")
    pictures = _pictures(recipe, scores, shown, data_sets, bundle / "docs")
    trainings = [_training(part) for part in parts]
    values = {
        "name": recipe.name,
        "made": time.strftime("%Y-%m-%d"),
        "commit": git_commit(),
        "versions": versions(),
        "machine": machine(),
        "data": _data(recipe, cases, final),
        "protocol": _protocol(recipe),
        "trainings": [*(_before(path, trainings) if refined else []), *trainings],
        "members": dict(recipe.members),
        "facts": load_weights(weights_file(bundle)).metadata["facts"],
        "settings": _settings(final),
        "scores": summaries(scores),
        "robustness": robustness(recipe, parts, datalist),
        "weights": weights,
        "likeness_limit": profile["limit"],
        "window": read_windows(final.run),
        "pictures": pictures,
    }
    if (confidence := confidence_of(recipe, parts, datalist)) is not None:
        values[CONFIDENCE] = confidence
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=1) + "\n"
    write_text(path, text)
    return path


def _calibrate(final: Part, datalist: Path) -> None:
    """Calibrate the windows of the final training, if this has not been done."""
    if "calibration" in final.record:
        return
    config = read_config(final.run / "configs" / "train.json")
    data = load_fold(
        datalist,
        config["fold"],
        intensity=_plain(config["intensity"]),
        target=config.get("target"),
    )
    settle_window(final.run, data)


def _tune(part: Part, datalist: Path) -> None:
    """Tune the decoder of a part on its training volumes, if this has not been done."""
    if part.has_weights and "trials" not in (kept_decoder(part.run) or {}):
        tune_run(part.run, most=4, side=TUNED_SIDE, datalist=datalist)


def _profile(model: TrainedModel, cases: Datalist) -> dict[str, Any]:
    features = [
        volume_features(read_volume(case.image), model.intensity)
        for case in cases.cases
        if case.split != "test"
    ]
    return profile_of(features)


def _put_weights(
    model: TrainedModel,
    final: Part,
    recipe: WeightsRecipe,
    cases: Datalist,
    bundle: Path,
    profile: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the weights into the bundle and return their entry of the record."""
    weights = load_weights(weights_file(final.run))
    halves = halved(weights.tensors)
    changed = _changed(model, halves, cases)
    is_half = changed <= MOST_CHANGED
    facts = dict(weights.metadata["facts"])
    # This is the spacing that volumes were resampled to, not that of the first file.
    facts["spacing_um"] = None if recipe.spacing_um is None else [*recipe.spacing_um]
    if recipe.spacing_um is not None:
        facts["resampled"] = True
    # These describe the prepared data set and do not hold for a user's files.
    for key in ("spacing_told", "label_map"):
        facts.pop(key, None)
    metadata = {
        "facts": facts,
        "iteration": weights.metadata["iteration"],
        "score": weights.metadata["score"],
        "likeness": dict(profile),
        "decoder": kept_decoder(final.run),
        "adapts": recipe.adapts,
    }
    path = weights_file(bundle)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = halves if is_half else weights.tensors
    digest = save_weights(path, tensors, metadata)
    path.with_name(f"{path.name}.prev").unlink(missing_ok=True)
    numbers = sum(p.numel() for p in model.network.parameters())
    return {
        "sha256": digest,
        "bytes": path.stat().st_size,
        "parameters": numbers,
        "precision": "float16" if is_half else "float32",
        "labels_changed_by_half": changed,
        "iteration": metadata["iteration"],
    }


def halved(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights in half precision, except those of one dimension.

    These are the statistics of normalisation, which may exceed the range of half
    precision, and biases. Together they are a hundredth of all numbers.
    """
    return {
        name: tensor.half()
        if tensor.is_floating_point() and tensor.ndim > 1
        else tensor
        for name, tensor in tensors.items()
    }


def _changed(
    model: TrainedModel, halves: Mapping[str, torch.Tensor], cases: Datalist
) -> float:
    """Return the share of voxels whose label changes with half precision."""
    differ = voxels = 0
    chosen = [case for case in cases.cases if case.split != "training"][:COMPARED]
    for case in chosen or cases.cases[:COMPARED]:
        image = read_volume(case.image)
        before, _ = predicted(model, image, precision="float32")
        original = {k: v.clone() for k, v in model.network.state_dict().items()}
        model.network.load_state_dict(dict(halves))
        after, _ = predicted(model, image, precision="float32")
        model.network.load_state_dict(original)
        differ += int(np.count_nonzero(before != after))
        voxels += before.size
    return differ / max(1, voxels)


def _data(recipe: WeightsRecipe, cases: Datalist, final: Part) -> list[dict[str, Any]]:
    """Return each data set with its cases for training and test, and their hashes."""
    hashes = (final.record.get("data") or {}).get("content", {})
    names = [source.name for source in recipe.sources] or ["simulated"]
    table: dict[str, dict[str, Any]] = {
        name: {"name": name, "dataset": name, "training": [], "test": [], "hashes": {}}
        for name in names
    }
    for source in recipe.sources:
        table[source.name]["dataset"] = source.dataset
    for case in cases.cases:
        row = table[_source_of(case, names)]
        row["test" if case.split == "test" else "training"].append(case.name)
        if case.name in hashes:
            row["hashes"][case.name] = hashes[case.name]
    return list(table.values())


def _source_of(case: Case, names: Sequence[str]) -> str:
    return next((n for n in names if case.name.startswith(n)), names[0])


def _pictures(
    recipe: WeightsRecipe,
    scores: Sequence[Score],
    shown: Mapping[str, Shown],
    data_sets: Mapping[str, Mapping[str, Any]],
    docs: Path,
) -> dict[str, dict[str, Any]]:
    """Draw the best and the worst case and return the card's entry for each."""
    metric = "dice" if any(score.metric == "dice" for score in scores) else "object_f1"
    named = [score for score in scores if score.metric == metric]
    chosen = named[0].class_name if named else ""
    # The last class is the finest structure.
    for score in named:
        if score.class_name != "foreground":
            chosen = score.class_name
    values = {s.case: s.value for s in named if s.class_name == chosen}
    names = [source.name for source in recipe.sources] or ["simulated"]
    kept = {}
    for kind, case in best_and_worst(values).items():
        picture = shown[case]
        draw_triple(picture.image, picture.truth, picture.found, docs / f"{kind}.png")
        source = next((n for n in names if case.startswith(n)), names[0])
        dataset = next((s.dataset for s in recipe.sources if s.name == source), source)
        kept[kind] = {
            "case": case,
            "class": chosen,
            "metric": metric,
            "value": round(values[case], 4),
            "credit": f"{data_sets[dataset]['citation']}",
        }
    return kept


def _protocol(recipe: WeightsRecipe) -> str:
    """Return a sentence about the volumes on which the scores were measured."""
    if recipe.simulated:
        return (
            f"{recipe.simulated['test']} simulated cells for each condition, of seeds "
            "that train no network, predicted on the grid they were taken on"
        )
    tested = [source.name for source in recipe.sources if source.test]
    parts = []
    if recipe.leave_out != "none":
        parts.append(
            f"each {recipe.leave_out} is left out of a training of its own, which is "
            "scored on it; the shipped weights are trained on all"
        )
    if tested:
        parts.append(f"volumes of {', '.join(tested)} that no training sees")
    return "; ".join(parts)


def _before(path: Path, now: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the trainings of an earlier record that are not those of `now`.

    Their names are given a mark, so that they can be told.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))["trainings"]
    known = json.loads(json.dumps(now))
    return [
        {**row, "part": f"{BEFORE}{str(row['part']).removeprefix(BEFORE)}"}
        for row in rows
        if row not in known
    ]


def _training(part: Part) -> dict[str, Any]:
    """Return the cost of a training and how its loss ended."""
    record = part.record
    if not record:
        return {"part": part.name, "state": "not begun", "steps_planned": part.steps}
    losses = [row["loss"] for row in record.get("history", []) if "loss" in row]
    last = max(1, len(losses) // 5)
    fell = None
    if len(losses) >= 2 * last:
        before = float(np.mean(losses[-2 * last : -last]))
        fell = round(1 - float(np.mean(losses[-last:])) / before, 4)
    return {
        "part": part.name,
        "state": record.get("state"),
        "steps": record.get("iteration"),
        "steps_planned": part.steps,
        "cost": record.get("cost"),
        "machine": record.get("machine"),
        "commit": record.get("git_commit"),
        "loss": round(losses[-1], 4) if losses else None,
        "loss_fell_in_last_fifth": fell,
        "best_validation": record.get("best_score"),
    }


def _settings(final: Part) -> dict[str, Any]:
    """Return the parts of the training config that go into the record."""
    config = read_config(final.run / "configs" / "train.json")
    train = config["train"]
    return {
        "network": config["network_def"],
        "patch": config["spec"]["patch_shape"],
        "batch": train["dataloader"].get("batch_size"),
        "loss": config["loss"],
        "optimizer": config["optimizer"],
        "average": config["average"].get("decay"),
        "augmentation": train["random_transforms"],
    }


def _plain(block: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "_target_"}
