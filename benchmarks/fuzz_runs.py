"""Intact runs, weights, plans, packages and reviews for fuzz.py to damage."""

# ruff: noqa: PLC0415 - torch takes seconds, which kinds without a network do not need

import contextlib
import csv
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fuzz_benchmark import benchmark_targets
from fuzz_damage import (
    Target,
    damage_state,
    damage_torch,
    damage_weights,
)

import cellseg3d
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, read_labels, write_labels, write_volume

BUNDLE = "cell_tomo_unet2d"
SHORT = {"train::dataset::samples": 4, "network_def::channels": [4, 8]}
SPACE = {
    "bundle": BUNDLE,
    "set": SHORT,
    "search": {
        "optimizer::lr": {"low": 0.001, "high": 0.01, "log": True},
        "train::dataset::samples": {"low": 2, "high": 4},
        "train::dataloader::batch_size": [1, 2],
        "spec::patch_shape": [[32, 32], [16, 32]],
    },
}


class _Begun(Exception):  # noqa: N818 - no fault
    """A training would begin now."""


def run_targets(folder: Path) -> list[Target]:
    """Train for a moment, and return everything that is made with and of a run.

    Parameters
    ----------
    folder : Path
        Where to write; it exists.
    """
    data = _training_data(folder / "training")
    run = cellseg3d.train(BUNDLE, data, folder / "resumed", _options())
    states = Target(
        "training state", run, ("checkpoints/last.pt",), _resume, damage_state
    )
    _one_file(run / "checkpoints", "last.pt")

    def begin(run: Path) -> None:
        weights = run / "models" / "model.pt"
        _begin(data, run.with_name("begun"), _options(pretrained=weights))

    torch_weights = Target(
        "weights .pt", run, ("models/model.pt",), begin, damage_torch
    )
    plain = shutil.copytree(run, folder / "run")
    shutil.rmtree(plain / "checkpoints")
    for name in ("model.pt", "last.safetensors"):
        (plain / "models" / name).unlink()
    _one_file(plain / "models", "model.safetensors")
    configs = ("configs/*.json",)
    records = ("run.json", "models/decoder.json")
    found = [
        Target("run configs", plain, configs, _read_run),
        Target("run weights", plain, ("models/*.safetensors",), _read_run),
        Target(
            "run facts", plain, ("models/*.safetensors",), _read_run, damage_weights
        ),
        Target("run records", plain, records, _read_run),
        Target("resumed configs", run, ("configs/train.json",), _resume),
        Target("resumed record", run, ("run.json",), _resume),
        states,
        torch_weights,
        *_setting_targets(folder, data),
        *_prediction_targets(folder, plain, data),
        *_package_targets(folder, plain),
        *_review_targets(folder, plain, data),
        *benchmark_targets(folder),
    ]
    return [replace(each, slow=True) for each in found]


def _training_data(data: Path) -> Path:
    data.mkdir()
    rng = np.random.default_rng(3)
    for number, name in enumerate("ab"):
        label = np.zeros((1, 48, 48), np.uint8)
        label[:, 12:30, 8 + number : 40] = 1
        image = (label * 80 + 60 + rng.normal(0, 5, label.shape)).astype(np.uint8)
        write_volume(data / f"{name}_image.tif", Volume(image))
        write_labels(data / f"{name}_label.tif", Volume(label))
    return data


def _options(**changed: Any) -> cellseg3d.TrainOptions:  # noqa: ANN401
    values = {
        "epochs": 1,
        "calibrate": False,
        "progress": False,
        "device": "cpu",
        "settings": SHORT,
    }
    return cellseg3d.TrainOptions(**{**values, **changed})


def _one_file(folder: Path, name: str) -> None:
    """Leave no older copy, which would be read instead of a damaged file."""
    (folder / f"{name}.prev").unlink(missing_ok=True)


def _read_run(run: Path) -> None:
    """Read a run folder as all verbs together do."""
    from cellseg3d.bundle.model import load_model
    from cellseg3d.bundle.trust import refuse_foreign_code
    from cellseg3d.prediction.segment import segment
    from cellseg3d.prediction.tune_objects import decoder_of
    from cellseg3d.report.run_folder import read_run
    from cellseg3d.runs.record import RunRecord, changed_data

    for name in ("train", "evaluate"):
        path = run / "configs" / f"{name}.json"
        refuse_foreign_code(read_mapping(path), path)
    model = load_model(run)
    decoder_of(model, None)
    segment(Volume(np.full((1, 32, 32), 90, np.uint8)), model)
    RunRecord(run)
    changed_data(run, {"content": {"a": ""}})
    found = read_run(run)
    found.best_scores()
    found.curve("loss")


def _resume(run: Path) -> None:
    """Train one epoch more, as ``train --resume`` does."""
    from cellseg3d.training.train import resume

    resume(run, _options(epochs=2, settings={}))


def _begin(data: Path, out: Path, options: cellseg3d.TrainOptions) -> None:
    """Build everything that a training needs, and end before its first step."""

    def stop(parser: Any) -> None:  # noqa: ANN401 - MONAI's ConfigParser
        parser.get_parsed_content("train::trainer")
        raise _Begun

    with contextlib.suppress(_Begun):
        cellseg3d.train(BUNDLE, data, out, options, watch=stop)


def _setting_targets(folder: Path, data: Path) -> list[Target]:
    """Return a search space, a plan, and the database of a search."""
    space = folder / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE), encoding="utf-8")
    from cellseg3d.planning.files import plan_data

    plan = folder / "plan.yaml"
    plan.write_text(plan_data(data, 1.0)[1], encoding="utf-8")

    def read_plan(path: Path) -> None:
        from cellseg3d.bundle.compose import read_config

        options = _options(plan=read_config(path), epochs=None)
        _begin(data, path.with_name("begun"), options)

    def read_searched(path: Path) -> None:
        import optuna

        from cellseg3d.tuning.space import read_space

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        searched = read_space(path, BUNDLE)
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
        settings = {**searched.fixed, **searched.suggest(trial)}
        _begin(data, path.with_name("begun"), _options(settings=settings))

    return [
        Target("search space", space, (), read_searched),
        Target("plan", plan, (), read_plan),
        _search_target(folder, data),
    ]


def _search_target(folder: Path, data: Path) -> Target:
    from cellseg3d.tuning.search import TuneOptions, tune
    from cellseg3d.tuning.space import read_space

    space = read_space(folder / "space.yaml")
    options = TuneOptions(trials=1, epochs=1, outer=0, device="cpu")
    out = folder / "search"
    tune(space, data, out, options)

    def read(path: Path) -> None:
        tune(space, data, path, options)

    return Target("search database", out, ("tune.db",), read)


def _prediction_targets(folder: Path, run: Path, data: Path) -> list[Target]:
    """Return the record of a prediction, and one that was stopped half-way."""
    from cellseg3d.bundle.model import load_model
    from cellseg3d.prediction import pipeline
    from cellseg3d.prediction.segment import segment, segment_to_file
    from cellseg3d.scoring.meaning import meaning_of

    out = folder / "predicted"
    out.mkdir()
    volume, model = open_volume(data / "a_image.tif"), load_model(run)
    segment_to_file(volume, [model], out / "a_labels.tif")
    # Many chunks in a small volume.
    pipeline.CHUNK_VOXELS = pipeline.ROWS_VOXELS = 1
    model = replace(model, window={"core": 16, "halo": 4})
    deep = Volume(np.concatenate([volume.read()] * 6))
    begun = folder / "stopped"
    begun.mkdir()
    write_volume(folder / "deep.tif", deep)

    def predict(place: Path, progress: Callable[[int, int], None] | None) -> None:
        source = open_volume(folder / "deep.tif")
        segment_to_file(source, [model], place / "a_labels.tif", progress=progress)

    def stop(done: int, total: int) -> None:
        assert done < total
        raise _Begun

    with contextlib.suppress(_Begun):
        predict(begun, stop)

    def read(path: Path) -> None:
        meaning_of(str(path / "a_labels.tif"))

    def read_stopped(path: Path) -> str:
        predict(path, None)
        labels = open_volume(path / "a_labels.tif").read()
        whole = segment(deep, model).labels.array
        same = np.array_equal(labels, whole)
        return "as before" if same else "silent change of the labels"

    return [
        Target("run prediction", out, ("a_labels.json",), read),
        Target("stopped prediction", begun, ("*.partial/*",), read_stopped),
    ]


def _package_targets(folder: Path, run: Path) -> list[Target]:
    """Return a package of bioimage.io, and one whose hashes were left out."""
    from cellseg3d.bundle.bioimageio.export import export_bioimageio
    from cellseg3d.bundle.model import load_model
    from cellseg3d.bundle.take_in import import_package

    package = export_bioimageio(run, folder / "package")
    for part in ("configs", "models/model.safetensors"):
        shutil.rmtree(package / part, ignore_errors=True)
    unhashed = shutil.copytree(package, folder / "unhashed")
    rdf = unhashed / "rdf.yaml"
    text = rdf.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "sha256:" not in line]
    rdf.write_text("\n".join(lines) + "\n", encoding="utf-8")
    packed = Path(shutil.make_archive(str(folder / "packed"), "zip", package))

    def read(path: Path) -> str:
        out = path.with_name("taken")
        shutil.rmtree(out, ignore_errors=True)
        model = load_model(import_package(path, out))
        shutil.rmtree(out)
        state = model.network.state_dict()
        parts = [bytes(state[name].numpy().tobytes()) for name in sorted(state)]
        return f"said {hashlib.sha256(b''.join(parts)).hexdigest()[:12]}"

    def read_checked(path: Path) -> str:
        return read(path).replace("said", "silent")

    programs = ("models/*.ts", "*.npy")
    return [
        Target("package rdf.yaml", package, ("rdf.yaml",), read),
        Target("package files", package, programs, read_checked),
        Target("package unhashed", unhashed, programs, read),
        Target("package .zip", packed, (), read_checked),
    ]


def _review_targets(folder: Path, run: Path, data: Path) -> list[Target]:
    """Return a review in which one piece was corrected, and what it was merged to."""
    from cellseg3d.bundle.model import load_model
    from cellseg3d.review.merge import load_reviewed, merge_reviews
    from cellseg3d.review.pieces import MARKS, load_review
    from cellseg3d.review.prepare import ReviewOptions, prepare_review

    review = folder / "review"
    source = [str(data / "a_image.tif")]
    prepare_review(source, [load_model(run)], review, ReviewOptions(3, 16))
    first, second, *_ = load_review(review).pieces
    labels = read_labels(first.labels_file(review))
    write_labels(first.labels_file(review), Volume(1 - np.minimum(labels.read(), 1)))
    load_review(review).mark_seen(second.name)
    with (review / MARKS).open(encoding="utf-8") as file:
        assert sum(row["seen"] == "yes" for row in csv.DictReader(file)) == 1
    merged = folder / "merged"
    merge_reviews([review], merged)

    def read(path: Path) -> None:
        out = path.with_name("merged_anew")
        shutil.rmtree(out, ignore_errors=True)
        merge_reviews([path], out)
        load_reviewed(out)

    def read_merged(path: Path) -> None:
        load_reviewed(path)

    own = ("review.json", "seen.csv")
    return [
        Target("review", review, own, read),
        Target("review labels", review, ("*_labels.tif",), read),
        Target("review merged", merged, ("reviewed.json",), read_merged),
    ]
