"""Run the jobs of a study: train, predict, score and record each of them once."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cellseg3d.benchmark.bundles import (
    MODEL,
    curve_bundle,
    predict_bundles,
    train_bundle,
)
from cellseg3d.benchmark.dataset import Dataset, WrittenFold, write_fold
from cellseg3d.benchmark.outcome import NotAvailable, Predicted, Trained
from cellseg3d.benchmark.peers import curve_peer, predict_peer, train_peer
from cellseg3d.benchmark.record import (
    RECORDS,
    Record,
    read_record,
    recipe_of,
    write_record,
)
from cellseg3d.benchmark.scores import score_case
from cellseg3d.benchmark.study import Job, Study
from cellseg3d.core.errors import CellSegError, ConfigError
from cellseg3d.metrics.overlap import mean_defined
from cellseg3d.runs.lock import RunLock
from cellseg3d.runs.record import git_commit, machine, versions

logger = logging.getLogger(__name__)
RUNS = "runs"


@dataclass(frozen=True)
class Bench:
    """A study and the folder in which it runs.

    Parameters
    ----------
    study : Study
    folder : Path
        The folder for ``records``, ``runs`` (models, labels, logs), ``folds``,
        ``data``.
    nnunet_python : Path or None
        An interpreter in which nnU-Net v2 is installed.
    """

    study: Study
    folder: Path
    nnunet_python: Path | None = None
    _folds: dict[tuple[str, int], WrittenFold] = field(default_factory=dict)

    def record_path(self, key: str) -> Path:
        """Return the path of a job's record, whether or not it exists yet."""
        return self.folder / RECORDS / f"{key}.json"

    def run_folder(self, key: str) -> Path:
        """Return the folder in which a job trains and predicts."""
        return self.folder / RUNS / key

    def fold(self, dataset: Dataset, number: int) -> WrittenFold:
        """Return a fold; its datalist is written when it is first asked for."""
        found = self._folds.get((dataset.name, number))
        if found is None:
            datalist = dataset.open(self.folder / "data")
            found = write_fold(dataset, datalist, number, self.folder / "folds")
            self._folds[dataset.name, number] = found
        return found


def pending(bench: Bench, only: Sequence[str] = ()) -> tuple[list[Job], int]:
    """Return the jobs without a finished record, and the number of finished ones.

    Parameters
    ----------
    bench : Bench
    only : sequence of str
        Keys, parts of keys, or patterns with ``*``; all jobs when empty.

    Raises
    ------
    ConfigError
        If no job fits `only`, or a record was made with other settings.
    """
    jobs = list(bench.study.jobs())
    chosen = [job for job in jobs if not only or _fits(job.key, only)]
    if not chosen:
        message = f"--only {' '.join(only)}: fits no cell, such as {jobs[0].key}"
        raise ConfigError(message)
    todo = [job for job in chosen if not _is_done(bench, job)]
    return todo, len(chosen) - len(todo)


def run_jobs(
    bench: Bench,
    jobs: Sequence[Job],
    before: Callable[[Job], None] | None = None,
    after: Callable[[Job, Record], None] | None = None,
) -> list[Record]:
    """Run jobs one after another; a job that fails is recorded, and the next one runs.

    Parameters
    ----------
    bench : Bench
    jobs : sequence of Job
    before, after : callable, optional
        Functions called with the job before it begins and with its record at its end.

    Raises
    ------
    EnvironmentFault
        If another process runs a benchmark in this folder.
    KeyboardInterrupt
        If the user interrupts. The current job leaves no record; earlier ones stay.
    """
    records = []
    with RunLock(bench.folder):
        for job in jobs:
            if before is not None:
                before(job)
            record = run_job(bench, job)
            write_record(record, bench.folder)
            records.append(record)
            if after is not None:
                after(job, record)
    return records


def run_job(bench: Bench, job: Job) -> Record:
    """Train, predict and score one job; record any error instead of raising it."""
    folder = bench.run_folder(job.key)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        return _measured(bench, job, folder)
    except NotAvailable as error:
        return _record(bench, job, state="skipped", reason=str(error))
    except (CellSegError, OSError) as error:
        logger.warning("%s failed: %s", job.key, error)
        return _record(bench, job, state="failed", reason=str(error))


def _measured(bench: Bench, job: Job, folder: Path) -> Record:
    """Return the record of a job that succeeded."""
    fold = bench.fold(job.dataset, job.fold)
    trained = _trained(bench, job, fold, folder)
    predicted = _predicted(bench, job, fold, folder)
    volumes = {
        case.name: {
            "unit": fold.unit_of(case),
            **score_case(
                predicted.labels[case.name],
                case,
                fold,
                job.dataset.target,
                objects=job.dataset.objects,
            ),
        }
        for case in fold.tests
    }
    prediction = predicted.cost.as_dict()
    prediction["volumes_s"] = round(predicted.volumes_s, 3)
    return _record(
        bench,
        job,
        state="done",
        volumes=volumes,
        curve=_curve(bench, job, fold, folder),
        prediction=prediction,
        warnings=list(dict.fromkeys((*fold.warnings, *trained.pop("warnings")))),
        versions={**versions(), **trained.pop("versions")},
        **trained,
    )


def _curve(
    bench: Bench, job: Job, fold: WrittenFold, folder: Path
) -> list[dict[str, Any]]:
    """Return the scores of the weights kept during a training; none without them."""
    if job.method.of or not fold.validation:
        return []
    if job.method.kind == "peer":
        python = bench.nnunet_python
        found = curve_peer(job.method.peer, fold, folder, python=python)
    else:
        found = curve_bundle(folder / MODEL, fold, folder)
    points = []
    for kept, labels in found:
        each = [
            score_case(
                labels[case.name],
                case,
                fold,
                job.dataset.target,
                objects=False,
                surface=False,
            )["scores"]
            for case in fold.validation
        ]
        means = {
            name: mean_defined([scores[name] for scores in each])[0]
            for name in ("dice", "mean_dice")
        }
        spent = {"share": round(kept.share, 4), "spent_s": round(kept.spent_s, 3)}
        points.append({**spent, "steps": kept.steps, **means})
    return points


def _trained(bench: Bench, job: Job, fold: WrittenFold, folder: Path) -> dict[str, Any]:
    """Train, or return the summed training cost of the networks that the job uses."""
    if job.method.of:
        return _borrowed(bench, job)
    budget = bench.study.budget(job)
    if job.method.kind == "peer":
        result = train_peer(
            job.method.peer,
            fold,
            folder,
            budget=budget,
            python=bench.nnunet_python,
            settings=job.method.settings,
        )
    else:
        result = train_bundle(job.method, fold, budget, folder)
    return _facts(result)


def _facts(result: Trained) -> dict[str, Any]:
    return {
        "training": {
            **result.cost.as_dict(),
            "steps": result.steps,
            "voxels": result.voxels,
        },
        "parameters": result.parameters,
        "warnings": list(result.warnings),
        "versions": result.versions,
    }


def _borrowed(bench: Bench, job: Job) -> dict[str, Any]:
    """Return the summed training cost of the networks that a job uses."""
    used = []
    for name in job.method.of:
        key = job.key_of(name)
        path = bench.record_path(key)
        record = read_record(path) if path.exists() else None
        if record is None or record.state != "done":
            state = "was not run" if record is None else record.state
            raise CellSegError(f"{key}: {state}, and {job.method.name!r} needs it")
        if not (bench.run_folder(key) / MODEL).exists():
            message = f"{bench.run_folder(key)}: its network is gone; delete {path}"
            raise CellSegError(f"{message} and run again")
        used.append(record)
    training = {
        name: sum(record.training[name] for record in used)
        for name in ("elapsed_s", "cpu_s", "steps", "voxels")
    }
    return {
        "training": {
            **training,
            "peak_gib": max(record.training["peak_gib"] for record in used),
        },
        "parameters": sum(record.parameters for record in used),
        "warnings": [warning for record in used for warning in record.warnings],
        "versions": {},
    }


def _predicted(bench: Bench, job: Job, fold: WrittenFold, folder: Path) -> Predicted:
    method = job.method
    if method.kind == "peer":
        return predict_peer(method.peer, fold, folder, python=bench.nnunet_python)
    names = method.of or (method.name,)
    runs = [bench.run_folder(job.key_of(name)) / MODEL for name in names]
    return predict_bundles(method, runs, fold, folder)


def _record(bench: Bench, job: Job, **facts: Any) -> Record:  # noqa: ANN401
    """Return a record in whose sentences paths are relative to the benchmark folder."""
    if "reason" in facts:
        facts["reason"] = _portable(facts["reason"], bench.folder)
    if "warnings" in facts:
        facts["warnings"] = [_portable(w, bench.folder) for w in facts["warnings"]]
    return Record(
        key=job.key,
        study=bench.study.name,
        dataset=job.dataset.name,
        target=job.dataset.target,
        method=job.method.name,
        fold=job.fold,
        seed=job.seed,
        recipe=recipe_of(job, bench.study),
        machine=machine(),
        commit=git_commit(),
        **{"versions": versions(), **facts},
    )


def _portable(sentence: str, folder: Path) -> str:
    """Return a sentence without the folder's path, which differs between machines."""
    for place in (folder.resolve(), folder):
        sentence = sentence.replace(f"{place}/", "")
    return sentence


def _is_done(bench: Bench, job: Job) -> bool:
    """Return whether a job has a finished record made with the same settings."""
    path = bench.record_path(job.key)
    if not path.exists():
        return False
    record = read_record(path)
    wanted = recipe_of(job, bench.study)
    if record.state == "done" and record.recipe != wanted:
        changed = [key for key in wanted if record.recipe.get(key) != wanted[key]]
        message = (
            f"{path}: was made with another {' and '.join(changed)} than the study now "
            "says; choose another --out, or delete it"
        )
        raise ConfigError(message)
    return record.state == "done"


def _fits(key: str, only: Sequence[str]) -> bool:
    return any(fnmatch(key, pattern) or pattern in key for pattern in only)
