"""Train a bundle on a data set: what the command line and Python call."""

import logging
import warnings
from pathlib import Path
from typing import Any

from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.bundle.trust import refuse_foreign_code
from cellseg3d.core.errors import CellSegError
from cellseg3d.data.doctor import examine_before_training
from cellseg3d.engines.doctor_notes import keep_notes
from cellseg3d.engines.run_folder import TrainOptions, create_run, reopen_run

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
    config = create_run(chosen, data, folder, options or TrainOptions())
    keep_notes(folder, notes)
    run_config(config)
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
    run_config(reopen_run(folder, options or TrainOptions()))
    return folder


def run_config(config: Path, **overrides: Any) -> None:  # noqa: ANN401
    """Run a bundle's training config as ``python -m monai.bundle run`` does.

    Parameters
    ----------
    config : Path
        ``configs/train.json``.
    **overrides
        Ids to other values.
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
    except RuntimeError as error:
        raise _own_error(error) from error
    finally:
        workflow.finalize()


def _own_error(error: BaseException) -> BaseException:
    """Return our error that MONAI has wrapped in its own; as it is without one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CellSegError | KeyboardInterrupt | MemoryError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error
