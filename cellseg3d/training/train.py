"""Train a bundle on a data set, resume a training, and score a trained run."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from cellseg3d.bundle.arguments import check_does_something
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.resolve import first_line, resolve_in_place
from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.calibration.confidence import settle_confidence
from cellseg3d.calibration.object_sizes import settle_decoder
from cellseg3d.calibration.source_fit import settle_fusion
from cellseg3d.calibration.window import settle_window
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import CellSegError, ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.steps import each_line_once, say
from cellseg3d.datasets.told import told_datalist
from cellseg3d.datasets.volumes import LoadedFold
from cellseg3d.doctor.examine import examine_before_training
from cellseg3d.doctor.findings import parted
from cellseg3d.models.checkpoint import ArchitectureError
from cellseg3d.runs.folder import check_free, create_run, reopen_run
from cellseg3d.runs.lock import RunLock
from cellseg3d.runs.options import TrainOptions
from cellseg3d.training.doctor_notes import keep_notes
from cellseg3d.training.evaluator import run_evaluation
from cellseg3d.training.loss_check import check_ignores
from cellseg3d.training.precision import training_dtype
from cellseg3d.training.processes import join_processes
from cellseg3d.training.session import run_training

logger = logging.getLogger(__name__)
Watch = Callable[[Any], None]
# How MONAI says that it cannot build something, that an expression fails, and that a
# reference has no target.
_FAILED = re.compile(r"Failed to instantiate component '([\w.]+)'")
_EXPRESSION = re.compile(r"Failed to evaluate ConfigExpression:\s*(.+)", re.DOTALL)
_NOTHING = re.compile(r"the referring item `([^`]+)` is not defined")
# What configs call to do their work.
_RUNS = (
    f"{run_training.__module__}.{run_training.__name__}",
    f"{run_evaluation.__module__}.{run_evaluation.__name__}",
)


def train(
    bundle: str | Path,
    data: str | Path,
    out: str | Path,
    options: TrainOptions | None = None,
    *,
    watch: Watch | None = None,
) -> Path:
    """Train a bundle on a data set and return the run folder, which is itself a bundle.

    The data are checked first as `cellseg3d doctor` does: errors end the training, and
    warnings are recorded. If torchrun has started several processes, the first one
    makes the folder.

    Parameters
    ----------
    bundle : str or Path
        A bundle's folder, or the name of a bundle of this package.
    data : str or Path
        A datalist, or a folder of volumes and labels.
    out : str or Path
        The run folder; it must be empty or not exist yet.
    options : TrainOptions, optional
        What to change in the bundle's configs, such as ``minutes``.
    watch : callable, optional
        Function that is called with MONAI's ``ConfigParser`` before the first step.

    Raises
    ------
    CellSegError
        If the data, an option, a config or the machine does not allow the training.
    KeyboardInterrupt
        If a signal asked the training to stop; `resume` continues it.

    Examples
    --------
    This training takes a moment and learns nothing. Leave `settings` out and give
    ``minutes=30`` for a useful one:

    >>> import cellseg3d
    >>> cells = cellseg3d.simulate_dataset("trained_cells", 2, 24)
    >>> short = {"train::dataset::samples": 2}
    >>> options = cellseg3d.TrainOptions(epochs=1, settings=short, progress=False)
    >>> run = cellseg3d.train("cell_tomo_unet2d", cells, "run", options)
    >>> (run / "models" / "model.safetensors").is_file()
    True
    """
    folder = Path(out)
    wanted = options or TrainOptions()
    config = folder / "configs" / "train.json"
    with ExitStack() as held:
        held.enter_context(each_line_once())
        if join_processes() == 1 or idist.get_rank() == 0:
            chosen = find_bundle(bundle)
            # Lock before the first write, so that another run's configs are kept.
            held.enter_context(RunLock(folder))
            check_free(folder)
            told = told_datalist(
                data,
                wanted.spacing_um,
                wanted.annotated_slices,
                channel=wanted.channel,
                channels=wanted.channels,
            )
            notes = examine_before_training(told)
            for note in notes:
                logger.warning("%s", note)
            config = create_run(chosen, told, folder, wanted)
            keep_notes(folder, notes)
        idist.barrier()  # The other processes read what the first one has written.
        try:
            _run_and_calibrate(folder, config, wanted, watch)
        except ArchitectureError as error:
            if not wanted.pretrained_if_fits:
                raise
            _begin_at_random(config, error)
            _run_and_calibrate(folder, config, wanted, watch)
    return folder


def _begin_at_random(config: Path, error: ArchitectureError) -> None:
    """Take the weights to begin with out of a run's config, and say so."""
    cause = parted(str(error))[0]
    say(
        f"the training begins with random weights: {cause}; the network's depth "
        "follows the size and the spacing of the volumes"
    )
    if idist.get_rank() == 0:
        values = {**read_mapping(config), "pretrained": None}
        write_text(config, json.dumps(values, indent=2) + "\n")
    idist.barrier()


def resume(
    out: str | Path,
    options: TrainOptions | None = None,
    *,
    data: str | Path | None = None,
) -> Path:
    """Continue the training in a run folder; the weights are as without interruption.

    Parameters
    ----------
    out : str or Path
        The run folder.
    options : TrainOptions, optional
        What to change, such as more epochs.
    data : str or Path, optional
        The data set to continue with; that of the run, unchanged, when None.


    Raises
    ------
    ConfigError
        If the folder is not a run folder.
    """
    folder = Path(out)
    wanted = options or TrainOptions()
    config = folder / "configs" / "train.json"
    with ExitStack() as held:
        if join_processes() == 1 or idist.get_rank() == 0:
            if not config.is_file():
                message = f"{folder}: holds no configs/train.json, so there is nothing"
                raise ConfigError(f"{message} to resume")
            held.enter_context(RunLock(folder))
            config = reopen_run(folder, wanted, data)
        idist.barrier()
        _run_and_calibrate(folder, config, wanted)
    return folder


def score_run(folder: Path) -> dict[str, Any]:
    """Score a trained run on the test cases of its datalist.

    Returns
    -------
    dict
        The scores that `evaluator.run_evaluation` returns and writes.

    Raises
    ------
    CellSegError
        If the run has no weights, or its datalist has no case to score on.
    """
    with _workflow(folder / "configs" / "evaluate.json", "evaluating") as workflow:
        workflow.initialize()
        [scores] = workflow.run()
    return dict(scores)


def _run_and_calibrate(
    folder: Path, config: Path, options: TrainOptions, watch: Watch | None = None
) -> None:
    data = run_config(config, watch)
    if data is not None:
        settle_decoder(folder, data)
    if data is not None and options.fit_axes:
        # The axes come first, because the halo is measured along them.
        say("fitting the weights of the axes on the validation volumes")
        settle_fusion(folder, data.validation, options.fit_axes)
    if data is not None and options.calibrate:
        say("measuring the halo that prediction needs; this takes up to a minute")
        settle_window(folder, data)
    if data is not None and options.calibrate and data.validation:
        # This comes last, because it is measured as prediction will work.
        say("fitting the temperature of the probabilities on the validation volumes")
        settle_confidence(folder, data)


def run_config(
    config: Path,
    watch: Watch | None = None,
    **overrides: Any,  # noqa: ANN401
) -> LoadedFold | None:
    """Run a bundle's training config as ``python -m monai.bundle run`` does.

    Parameters
    ----------
    config : Path
        ``configs/train.json``.
    watch : callable, optional
        Function that is called with MONAI's ``ConfigParser`` before the first step.
    **overrides
        Values that replace those of the config, by key.

    Returns
    -------
    LoadedFold or None
        The data of the training, if the config's ``data`` is a fold; None in all
        processes but the first.
    """
    with _workflow(config, "run", **overrides) as workflow:
        _check_precision(workflow.parser)
        workflow.initialize()
        _check_loss(workflow.parser)
        if watch is not None:
            watch(workflow.parser)
        workflow.run()
        leads = idist.get_rank() == 0
        data = workflow.parser.get_parsed_content("data") if leads else None
    return data if isinstance(data, LoadedFold) else None


@contextmanager
def _workflow(config: Path, run_id: str, **overrides: Any) -> Iterator[Any]:  # noqa: ANN401
    """Build a workflow from a config and finalize it; raise this package's errors."""
    from monai.bundle.workflows import ConfigWorkflow  # noqa: PLC0415 - seconds

    resolved = resolve_in_place(config, overrides)
    for key in ("initialize", run_id):
        check_does_something(resolved, key, config)
    # MONAI warns that it does not set up logging here.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # MONAI warns that configs can run code; `resolve_in_place` has checked that.
        warnings.simplefilter("ignore", UserWarning)
        workflow = ConfigWorkflow(
            config_file=str(config),
            workflow_type="train",
            run_id=run_id,
            logging_file=False,
        )
        # MONAI has read the file by itself; replace that by the checked config.
        workflow.parser.read_config(resolved)
    try:
        yield workflow
    except (RuntimeError, ValueError) as error:
        raise _own_error(error, config) from error
    finally:
        workflow.finalize()


def _check_precision(parser: Any) -> None:  # noqa: ANN401 - MONAI's ConfigParser
    """Refuse a precision that the device cannot compute in, before data are read."""
    if "precision" in parser and "device" in parser:
        device = parser.get_parsed_content("device")
        training_dtype(str(parser["precision"]), device)


def _check_loss(parser: Any) -> None:  # noqa: ANN401 - MONAI's ConfigParser
    """Refuse a loss that fails on voxels without a label, before the first step."""
    if all(key in parser for key in ("loss", "facts", "spec")):
        facts = ModelFacts.parse(parser.get_parsed_content("facts"))
        spec = InputSpec.parse(parser.get_parsed_content("spec"))
        loss = parser.get_parsed_content("loss")
        check_ignores(loss, facts.num_classes, spec.spatial_dims)


def _own_error(error: BaseException, config: Path) -> BaseException:
    """Return this package's error inside of MONAI's; MONAI's if there is none to say.

    What MONAI cannot build from the values of a config is a fault of the config. The
    functions that a config calls to run its work are an exception, because they fail
    for other reasons.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CellSegError | KeyboardInterrupt | MemoryError):
            return cause
        cause = cause.__cause__ or cause.__context__
    failed = _FAILED.match(str(error))
    if failed and failed[1] not in _RUNS and error.__cause__ is not None:
        return ConfigError(f"{config}: {failed[1]}: {first_line(error.__cause__)}")
    if (failed := _EXPRESSION.match(str(error))) and error.__cause__ is not None:
        text = " ".join(failed[1].replace("__local_refs", "").split())
        return ConfigError(f"{config}: {text} fails: {first_line(error.__cause__)}")
    if isinstance(error, ValueError) and (unknown := _NOTHING.match(str(error))):
        return ConfigError(f"{config}: {unknown[1]} refers to nothing; write its value")
    return error
