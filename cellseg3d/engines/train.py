"""Train a bundle on a data set: what the command line and Python call."""

import logging
import warnings
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.bundle.trust import refuse_foreign_code
from cellseg3d.core.errors import CellSegError
from cellseg3d.data.doctor import examine_before_training
from cellseg3d.data.volumes import LoadedFold
from cellseg3d.engines.doctor_notes import keep_notes
from cellseg3d.engines.run_folder import TrainOptions, create_run, reopen_run
from cellseg3d.engines.window import settle_window

logger = logging.getLogger(__name__)


def train(
    bundle: str | Path,
    data: str | Path,
    out: str | Path,
    options: TrainOptions | None = None,
) -> Path:
    """Train a bundle on a data set and return the run folder, itself a bundle.

    The doctor looks at the data first: errors end it, warnings go into the record.

    Parameters
    ----------
    bundle : str or Path
        A bundle's folder or the name of one that came along.
    data : str or Path
        A datalist, or a folder of volumes and labels.
    out : str or Path
        The run folder; empty, or not there yet.
    options : TrainOptions, optional

    Raises
    ------
    CellSegError
        In the words of what went wrong.
    KeyboardInterrupt
        If a signal asked it to stop; `resume` goes on.
    """
    folder = Path(out)
    chosen = find_bundle(bundle)
    notes = examine_before_training(data)
    for note in notes:
        logger.warning("%s", note)
    wanted = options or TrainOptions()
    config = create_run(chosen, data, folder, wanted)
    keep_notes(folder, notes)
    _run_and_calibrate(folder, config, wanted)
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
    _run_and_calibrate(folder, reopen_run(folder, wanted), wanted)
    return folder


def _run_and_calibrate(folder: Path, config: Path, options: TrainOptions) -> None:
    data = run_config(config)
    if data is not None and options.calibrate:
        settle_window(folder, data)


def run_config(config: Path, **overrides: Any) -> LoadedFold | None:  # noqa: ANN401
    """Run a bundle's training config as ``python -m monai.bundle run`` does.

    Parameters
    ----------
    config : Path
        ``configs/train.json``.
    **overrides
        Ids to other values.

    Returns
    -------
    LoadedFold or None
        What it was trained on, if its ``data`` says so; None in all processes but
        the first.
    """
    from monai.bundle.workflows import ConfigWorkflow  # noqa: PLC0415 - seconds

    refuse_foreign_code(config)
    # It warns that we do not let it set up logging.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # MONAI warns that configs can run code; that has just been looked at.
        warnings.simplefilter("ignore", UserWarning)
        workflow = ConfigWorkflow(
            config_file=str(config),
            workflow_type="train",
            logging_file=False,
            **overrides,
        )
    try:
        workflow.initialize()
        workflow.run()
        leads = idist.get_rank() == 0
        data = workflow.parser.get_parsed_content("data") if leads else None
    except RuntimeError as error:
        raise _own_error(error) from error
    finally:
        workflow.finalize()
    return data if isinstance(data, LoadedFold) else None


def _own_error(error: BaseException) -> BaseException:
    """Return our error that MONAI has wrapped in its own; as it is without one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CellSegError | KeyboardInterrupt | MemoryError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error
