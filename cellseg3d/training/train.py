"""Train a bundle on a data set: what the command line and Python call."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.resolve import resolve_in_place
from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.calibration.object_sizes import settle_decoder
from cellseg3d.calibration.source_fit import settle_fusion
from cellseg3d.calibration.window import settle_window
from cellseg3d.core.errors import CellSegError, ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.datasets.volumes import LoadedFold
from cellseg3d.doctor.examine import examine_before_training
from cellseg3d.runs.folder import (
    TrainOptions,
    check_free,
    create_run,
    reopen_run,
)
from cellseg3d.runs.lock import RunLock
from cellseg3d.training.doctor_notes import keep_notes
from cellseg3d.training.loss_check import check_ignores
from cellseg3d.training.precision import training_dtype
from cellseg3d.training.processes import join_processes

logger = logging.getLogger(__name__)
Watch = Callable[[Any], None]


def train(
    bundle: str | Path,
    data: str | Path,
    out: str | Path,
    options: TrainOptions | None = None,
    *,
    watch: Watch | None = None,
) -> Path:
    """Train a bundle on a data set and return the run folder, itself a bundle.

    The doctor looks at the data first: errors end it, warnings go into the record.
    Of several processes that torchrun has started, the first makes the folder.

    Parameters
    ----------
    bundle : str or Path
        A bundle's folder or the name of one that came along.
    data : str or Path
        A datalist, or a folder of volumes and labels.
    out : str or Path
        The run folder; empty, or not there yet.
    options : TrainOptions, optional
    watch : callable, optional
        Gets the training's parser when all is built, before the first step.

    Raises
    ------
    CellSegError
        In the words of what went wrong.
    KeyboardInterrupt
        If a signal asked it to stop; `resume` goes on.

    Examples
    --------
    A training of one moment; leave `settings` away and say ``minutes=30`` for one
    that learns:

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
        if join_processes() == 1 or idist.get_rank() == 0:
            chosen = find_bundle(bundle)
            # Before the first write: another run's configs must stay its own.
            held.enter_context(RunLock(folder))
            check_free(folder)
            notes = examine_before_training(data)
            for note in notes:
                logger.warning("%s", note)
            config = create_run(chosen, data, folder, wanted)
            keep_notes(folder, notes)
        idist.barrier()  # the others read what the first has written
        _run_and_calibrate(folder, config, wanted, watch)
    return folder


def resume(out: str | Path, options: TrainOptions | None = None) -> Path:
    """Go on with the training in a run folder; the same bits as without the stop.

    Parameters
    ----------
    out : str or Path
        The run folder.
    options : TrainOptions, optional
        What shall be different, such as more epochs.
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
            config = reopen_run(folder, wanted)
        idist.barrier()
        _run_and_calibrate(folder, config, wanted)
    return folder


def score_run(folder: Path) -> dict[str, Any]:
    """Score a trained run on the cases that its datalist keeps for testing.

    Returns
    -------
    dict
        What `evaluator.run_evaluation` writes.

    Raises
    ------
    CellSegError
        If the run has no weights, or its datalist nothing to score on.
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
        # First, so that the halo is measured along the axes that are swept.
        settle_fusion(folder, data.validation, options.fit_axes)
    if data is not None and options.calibrate:
        settle_window(folder, data)


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
        Gets MONAI's ``ConfigParser`` when all is built, before the first step.
    **overrides
        Ids to other values.

    Returns
    -------
    LoadedFold or None
        What it was trained on, if its ``data`` says so; None in all processes but
        the first.
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
    """Read what a config says, and take it down again; errors are our own."""
    from monai.bundle.workflows import ConfigWorkflow  # noqa: PLC0415 - seconds

    resolved = resolve_in_place(config, overrides)
    # It warns that we do not let it set up logging.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # MONAI warns that configs can run code; that has just been looked at.
        warnings.simplefilter("ignore", UserWarning)
        workflow = ConfigWorkflow(
            config_file=str(config),
            workflow_type="train",
            run_id=run_id,
            logging_file=False,
        )
        # MONAI has read the file by itself; what runs is what was checked.
        workflow.parser.read_config(resolved)
    try:
        yield workflow
    except RuntimeError as error:
        raise _own_error(error) from error
    finally:
        workflow.finalize()


def _check_precision(parser: Any) -> None:  # noqa: ANN401 - MONAI's ConfigParser
    """Refuse a number format that the device cannot compute in, before data is read."""
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


def _own_error(error: BaseException) -> BaseException:
    """Return our error that MONAI has wrapped in its own; as it is without one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CellSegError | KeyboardInterrupt | MemoryError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error
