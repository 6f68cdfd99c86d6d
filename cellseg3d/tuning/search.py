"""Search for the best settings of a training, scored on specimens not trained on."""

import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import (
    ConfigError,
    EnvironmentFault,
    FormatError,
    NonFiniteError,
)
from cellseg3d.core.extras import missing_extra
from cellseg3d.datasets.cases import Datalist
from cellseg3d.datasets.datalist import load_datalist, write_datalist
from cellseg3d.datasets.splits import grouped_folds, leave_one_group_out
from cellseg3d.doctor.examine import examine_before_training
from cellseg3d.metrics.overlap import mean_defined
from cellseg3d.runs.lock import RunLock
from cellseg3d.runs.options import TrainOptions
from cellseg3d.runs.record import NAME
from cellseg3d.training.train import score_run, train
from cellseg3d.tuning.space import Space

logger = logging.getLogger(__name__)
DATABASE, RESULT, BEST, FINAL = "tune.db", "tune.json", "best.yaml", "all"
# No trial is pruned before this many have ended; a median of fewer says little.
UNPRUNED = 4
# The attribute of a trial whose training had losses or scores that are no numbers.
_DIVERGED = "diverged"
# Files kept of a trial: its record and configs, but not its weights.
_DROPPED = ("checkpoints", "models", "tensorboard", "bad_batches")
OnTrial = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class TuneOptions:
    """Options of a search.

    Parameters
    ----------
    trials : int
        Number of trials per search; trials from before an interruption count.
    minutes, epochs : float, int, optional
        Length of each training; the bundle's epochs when both are None.
    outer : int
        Number of parts of the data that are held out in turn to score the search. With
        0 there is one search on all data, and it is not scored.
    inner : int
        Number of trainings per trial, each validated on other specimens; the trial's
        score is their mean.
    seed : int
    device : str, optional
    """

    trials: int = 20
    minutes: float | None = None
    epochs: int | None = None
    outer: int = 2
    inner: int = 1
    seed: int = 0
    device: str | None = None


def tune(
    space: Space,
    data: str | Path | Datalist,
    out: Path,
    options: TuneOptions | None = None,
    on_trial: OnTrial | None = None,
) -> dict[str, Any]:
    """Search for settings with nested cross-validation and return the results.

    For each outer part of the data, the search runs on the rest: each trial validates
    on specimens that it was not trained on. The best trial is then trained again on all
    of the rest and scored on the held-out part. These scores tell how good the search
    is. A last search on all data gives the settings to use. Each search is a study in
    ``tune.db``, so a second call continues where the first one stopped.

    Parameters
    ----------
    space : Space
    data : str, Path or Datalist
        A datalist or a folder. Its test cases are not used.
    out : Path
        Folder for ``tune.db``, ``tune.json``, ``best.yaml`` and the trials' records.
    options : TuneOptions, optional
    on_trial : callable, optional
        Function called with the study's name and a row after each trial.

    Raises
    ------
    ConfigError
        If there are too few specimens, or a setting is not valid.
    EnvironmentFault
        If Optuna is not installed, or another search uses the folder.
    """
    chosen = options or TuneOptions()
    datalist = data if isinstance(data, Datalist) else load_datalist(data)
    parts = _parts(datalist, chosen)
    for note in examine_before_training(data):
        logger.warning("%s", note)
    with RunLock(out), _usable(out / DATABASE):
        studies = [
            _Search(space, out, chosen, name, list_, on_trial).run(held)
            for name, list_, held in parts
        ]
    result = _summary(space, chosen, studies)
    _write(out / RESULT, json.dumps(result, indent=1) + "\n")
    _write(out / BEST, _as_plan(result))
    return result


@contextmanager
def _usable(database: Path) -> Iterator[None]:
    """Tell in one line what the database of a search cannot be used for.

    Raises
    ------
    EnvironmentFault
        If it is locked, or the disk is full.
    FormatError
        If it is damaged.
    """
    try:
        yield
    except Exception as error:
        # Optuna passes on the errors of the libraries that it stores with.
        kinds = {each.__name__ for each in type(error).__mro__}
        cause = str(error.__cause__ or error).splitlines()[0]
        if "OperationalError" in kinds:
            raise EnvironmentFault(f"{database}: {cause}; try again") from error
        if kinds & {"SQLAlchemyError", "OptunaError"}:
            message = f"{database}: is damaged ({cause}); remove it to search anew"
            raise FormatError(message) from error
        raise


def _parts(
    datalist: Datalist, options: TuneOptions
) -> list[tuple[str, Datalist, list[str]]]:
    """Return name, data and held-out cases of each search; the last has all data."""
    free = replace(
        datalist, cases=tuple(c for c in datalist.cases if c.split != "test")
    )
    parts: list[tuple[str, Datalist, list[str]]] = []
    folds = grouped_folds(free, options.outer, options.seed) if options.outer else []
    for number, fold in enumerate(folds):
        held = [case.name for case in fold.validation]
        cases = tuple(
            replace(case, split="test") if case.name in held else case
            for case in free.cases
        )
        parts.append((f"outer{number}", replace(free, cases=cases), held))
    for _, each, held in [*parts, (FINAL, free, [])]:
        rest = replace(each, cases=tuple(c for c in each.cases if c.name not in held))
        count = len(leave_one_group_out(rest))
        if options.inner > count:
            message = (
                f"{datalist.where}: {options.inner} inner folds of {count} specimens; "
                "lower --inner or --outer, or add specimens"
            )
            raise ConfigError(message)
    return [*parts, (FINAL, free, [])]


def _folder_name(trial: int) -> str:
    """Return how the folders of a trial begin; the number of the fold follows."""
    return f"trial{trial:03d}"


class _Search:
    """One study: its trials, and the score of the best on the held-out part."""

    def __init__(
        self,
        space: Space,
        out: Path,
        options: TuneOptions,
        name: str,
        datalist: Datalist,
        on_trial: OnTrial | None,
    ) -> None:
        self.space, self.options, self.name = space, options, name
        self.on_trial = on_trial
        self.folder = out / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.datalist = self.folder / "datalist.json"
        write_datalist(datalist, self.datalist)
        self.study = _open_study(out / DATABASE, name, options.seed)

    def run(self, held: list[str]) -> dict[str, Any]:
        """Run the missing trials, score the best one, and return the results."""
        from optuna.trial import TrialState  # noqa: PLC0415 - an extra

        for stale in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.tell(stale.number, state=TrialState.FAIL)
            for folder in self.folder.glob(f"{_folder_name(stale.number)}_*"):
                shutil.rmtree(folder, ignore_errors=True)
        finished = (TrialState.COMPLETE, TrialState.PRUNED)
        while len(self.study.get_trials(states=finished)) < self.options.trials:
            self.study.optimize(self._objective, n_trials=1, catch=(NonFiniteError,))
            if self.on_trial is not None:
                self.on_trial(self.name, _row(self.study.trials[-1]))
            # Trials that were stopped or killed have failed as well.
            failed = self.study.get_trials(states=(TrialState.FAIL,))
            diverged = sum(_DIVERGED in trial.user_attrs for trial in failed)
            if diverged > self.options.trials:
                message = f"{self.folder}: {diverged} trainings diverged; lower lr"
                raise NonFiniteError(message)
        best = self.study.best_trial
        values = best.user_attrs["settings"]
        found = {
            "name": self.name,
            "held_out": held,
            "trials": [_row(trial) for trial in self.study.trials],
            "best": {"trial": best.number, "score": best.value, "settings": values},
        }
        return {**found, "test": self._test(values)} if held else found

    def _objective(self, trial: Any) -> float:  # noqa: ANN401
        try:
            return self._score(trial)
        except NonFiniteError:
            trial.set_user_attr(_DIVERGED, value=True)
            raise

    def _score(self, trial: Any) -> float:  # noqa: ANN401
        from optuna import TrialPruned  # noqa: PLC0415 - an extra

        settings = self.space.suggest(trial)
        trial.set_user_attr("settings", settings)
        scores = []
        for fold in range(self.options.inner):
            folder = self.folder / f"{_folder_name(trial.number)}_{fold}"
            watcher = _Pruner(trial, first=fold == 0)
            try:
                self._train(folder, settings, fold, watcher)
                record = json.loads((folder / NAME).read_text(encoding="utf-8"))
            finally:
                for part in _DROPPED:
                    shutil.rmtree(folder / part, ignore_errors=True)
            if watcher.pruned:
                raise TrialPruned
            scores.append(record.get("best_score"))
        defined = [score for score in scores if score is not None]
        if not defined:
            raise NonFiniteError(f"{self.folder}: no validation had a defined Dice")
        return float(sum(defined) / len(defined))

    def _test(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the scores of the best settings on the held-out part."""
        kept = self.study.user_attrs.get("test")
        if kept is not None and kept["settings"] == settings:
            return dict(kept)
        folder = self.folder / "best"
        shutil.rmtree(folder, ignore_errors=True)
        self._train(folder, settings, "none", None)
        scores = score_run(folder)
        means = [row["dice"] for row in scores["mean"].values()]
        mean = mean_defined([math.nan if x is None else x for x in means])[0]
        found = {
            "settings": settings,
            "dice": mean,
            "classes": {name: row["dice"] for name, row in scores["mean"].items()},
        }
        self.study.set_user_attr("test", found)
        return found

    def _train(
        self,
        folder: Path,
        settings: dict[str, Any],
        fold: int | str,
        watch: "_Pruner | None",
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # of a trial that was killed
        options = TrainOptions(
            fold=fold,
            minutes=self.options.minutes,
            epochs=self.options.epochs,
            seed=self.options.seed,
            device=self.options.device,
            progress=False,
            settings={**self.space.fixed, **settings},
            calibrate=False,
        )
        train(self.space.bundle, self.datalist, folder, options, watch=watch)


class _Pruner:
    """Report every validation to a study; stop a training that the study prunes."""

    def __init__(self, trial: Any, *, first: bool) -> None:  # noqa: ANN401
        self.trial, self.first = trial, first
        self.pruned, self.steps = False, 0

    def __call__(self, parser: Any) -> None:  # noqa: ANN401 - MONAI's ConfigParser
        from ignite.engine import Events  # noqa: PLC0415 - seconds

        if not self.first:
            return
        trainer = parser.get_parsed_content("train::trainer")
        evaluator = parser.get_parsed_content("validate::evaluator")

        def tell() -> None:
            score = evaluator.state.metrics[evaluator.state.key_metric_name]
            self.steps += 1
            if math.isfinite(score):
                self.trial.report(float(score), self.steps)
                if self.trial.should_prune():
                    self.pruned = True
                    trainer.terminate()

        evaluator.add_event_handler(Events.EPOCH_COMPLETED, tell)


def _open_study(path: Path, name: str, seed: int) -> Any:  # noqa: ANN401
    try:
        import optuna  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise missing_extra("tune needs Optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{path.resolve()}",
        study_name=name,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED),
    )
    # Another random stream after a stop; otherwise the same trials would be repeated.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _row(trial: Any) -> dict[str, Any]:  # noqa: ANN401
    elapsed = trial.duration.total_seconds() if trial.duration else None
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "score": trial.value if trial.state.name == "COMPLETE" else None,
        "validations": list(trial.intermediate_values.values()),
        "elapsed_s": elapsed,
        "settings": trial.user_attrs.get("settings", {}),
    }


def _summary(
    space: Space, options: TuneOptions, studies: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    tests = [study["test"]["dice"] for study in studies if "test" in study]
    mean, count = mean_defined(tests)[:2]
    last = studies[-1]["best"]
    return {
        "bundle": space.bundle,
        "fixed": dict(space.fixed),
        "options": {
            key: value for key, value in vars(options).items() if value is not None
        },
        "studies": list(studies),
        "nested": {"dice": mean if count else None, "parts": tests, "n": count},
        "best": {
            "settings": {**space.fixed, **last["settings"]},
            "score": last["score"],
        },
    }


def _as_plan(result: dict[str, Any]) -> str:
    """Return the best settings as a file that ``train --plan`` takes."""
    best, nested = result["best"], result["nested"]
    lines = [
        f"# Best of a search: mean Dice {best['score']:.4f} on validation volumes,",
        "# an optimistic figure, as the best of several always is.",
    ]
    if nested["n"]:
        lines.append(
            f"# Such searches scored {nested['dice']:.4f} on {nested['n']} parts of "
            "the data that they had not seen."
        )
    lines.append(
        f"#   cellseg3d train --bundle {result['bundle']} --plan THIS_FILE ..."
    )
    lines += [f"{key}: {json.dumps(value)}" for key, value in best["settings"].items()]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    write_text(path, text)
