"""After a training, keep the sizes of its objects, so that specks can be left out."""

import logging
from pathlib import Path

from cellseg3d.core.errors import CellSegError
from cellseg3d.datasets.volumes import LoadedFold
from cellseg3d.objects.sizes import training_sizes
from cellseg3d.prediction.tune_objects import keep_sizes, kept_decoder

logger = logging.getLogger(__name__)


def settle_decoder(folder: Path, data: LoadedFold) -> None:
    """Write the least size of an object into a run, from its training labels.

    A decoder that is there, such as a tuned one, stays. A fault costs the sizes, not
    the training: it is logged.

    Parameters
    ----------
    folder : Path
        The run.
    data : LoadedFold
        What it was trained on.
    """
    if kept_decoder(folder) is not None:
        return
    try:
        sizes = training_sizes(data.fold.training, data.datalist)
        if sizes is not None:
            keep_sizes(folder, sizes, data.datalist.classes)
    except CellSegError as error:
        logger.warning("the sizes of the training objects are not known: %s", error)
