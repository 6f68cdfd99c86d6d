"""Store the sizes of the training objects, so that prediction can leave out specks."""

import logging
from pathlib import Path

from cellseg3d.core.errors import CellSegError
from cellseg3d.datasets.volumes import LoadedFold
from cellseg3d.objects.sizes import training_sizes
from cellseg3d.prediction.tune_objects import keep_sizes, kept_decoder

logger = logging.getLogger(__name__)


def settle_decoder(folder: Path, data: LoadedFold) -> None:
    """Write the sizes of the training objects into the decoder of a run.

    A decoder that the run holds already, such as a tuned one, is kept. If the sizes
    cannot be measured, a warning says so and the training is not affected.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    data : LoadedFold
        The data that it was trained on.
    """
    if kept_decoder(folder) is not None:
        return
    try:
        sizes = training_sizes(data.fold.training, data.datalist)
        if sizes is not None:
            keep_sizes(folder, sizes, data.datalist.classes)
    except CellSegError as error:
        logger.warning("the sizes of the training objects were not stored: %s", error)
