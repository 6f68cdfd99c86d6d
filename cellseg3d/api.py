"""Segment, measure and evaluate NumPy arrays and volumes, as a notebook needs it.

The functions do the same as the verbs of the command line. Import them from
`cellseg3d` itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.metrics.components import label_pieces
from cellseg3d.metrics.morphometry import Table, measure_objects
from cellseg3d.scoring.one_volume import ScoredVolume, ScoreOptions, score_volume

if TYPE_CHECKING:
    from cellseg3d.bundle.model import TrainedModel
    from cellseg3d.prediction.options import SegmentOptions
    from cellseg3d.prediction.segment import Segmentation

Image = Volume | NDArray[Any]
SpacingUm = Spacing | Sequence[float] | None


def segment(
    image: Image,
    model: "TrainedModel | Sequence[TrainedModel]",
    spacing_um: SpacingUm = None,
    options: "SegmentOptions | None" = None,
    progress: Callable[[int, int], None] | None = None,
) -> "Segmentation":
    """Label every voxel of a volume with a trained model.

    Parameters
    ----------
    image : ndarray or Volume, shape (Z, Y, X)
        Raw intensities of any real dtype, in the unit of the training data. The model
        scales them itself.
    model : TrainedModel or sequence of TrainedModel
        What `load_model` returns; the probabilities of several models are fused.
    spacing_um : three floats, optional
        Voxel edges along (z, y, x) in um. By default, those of the volume.
    options : SegmentOptions, optional
        Options such as ``SegmentOptions(probs=True)``.
    progress : callable, optional
        Called with the voxels done and those of the volume, after each part. An error
        that it raises ends the segmentation.

    Returns
    -------
    Segmentation
        ``labels`` is a `Volume` of uint8, shape (Z, Y, X), whose values are indices
        into ``model.classes``. ``probs`` is an ndarray of float32, shape
        (K, Z, Y, X), in [0, 1], or None if it was not asked for.

    Raises
    ------
    AxisError
        If the array does not have three axes.
    ConfigError
        If several models do not have the same classes or channels.
    NonFiniteError
        If the image or the output of the network holds NaN or infinity.

    Examples
    --------
    Train a network on two simulated cells for a moment, then segment a third cell.

    >>> import cellseg3d
    >>> cells = cellseg3d.simulate_dataset("two_cells", 2, 24)
    >>> short = {"train::dataset::samples": 2}
    >>> options = cellseg3d.TrainOptions(epochs=1, settings=short, progress=False)
    >>> run = cellseg3d.train("cell_tomo_unet2d", cells, "moment", options)
    >>> array = cellseg3d.simulate_case(24, seed=7).tomogram.array

    >>> model = cellseg3d.load_model(run)
    >>> wanted = cellseg3d.SegmentOptions(probs=True)
    >>> found = cellseg3d.segment(array, model, (0.05, 0.05, 0.05), wanted)
    >>> labels, probs = found.labels.array, found.probs
    >>> labels.shape, labels.dtype.name, probs.shape
    ((24, 24, 24), 'uint8', (4, 24, 24, 24))
    >>> bool((labels == probs.argmax(axis=0)).all())
    True
    """
    from cellseg3d.prediction.segment import segment as run  # noqa: PLC0415

    return run(_volume(image, spacing_um), model, options, progress)


def measure(
    labels: Image,
    image: Image | None = None,
    spacing_um: SpacingUm = None,
    *,
    components: bool = False,
) -> Table:
    """Measure every object of a volume of labels, in physical units.

    Parameters
    ----------
    labels : ndarray or Volume of integers, shape (Z, Y, X)
        Ids of objects, 0 where there is none; classes if `components` is set.
    image : ndarray or Volume, shape (Z, Y, X), optional
        Intensities to average over each object.
    spacing_um : three floats, optional
        Voxel edges along (z, y, x) in um. By default, those of the volume; if it has
        none, lengths in um are NaN.
    components : bool
        Whether to take each connected piece of a class for an object.

    Returns
    -------
    dict of ndarray, each of shape (n,)
        One entry for each object, by rising id, in columns such as ``"id"``,
        ``"volume_um3"``, ``"sphericity"`` and ``"mean_intensity"``;
        `cellseg3d.metrics.morphometry.measure_objects` lists all of them.

    Raises
    ------
    AxisError
        If an array does not have three axes.
    LabelError
        If labels are not integers or are negative, or the image has another shape.

    Examples
    --------
    >>> import cellseg3d
    >>> cell = cellseg3d.simulate_case(24, seed=1)
    >>> table = cellseg3d.measure(cell.labels.array > 0, spacing_um=(0.05, 0.05, 0.05))
    >>> len(table["id"]), int(table["voxels"][0]) == int((cell.labels.array > 0).sum())
    (1, True)
    """
    ids = _volume(labels, spacing_um)
    if ids.dtype == np.bool_:
        ids = ids.with_array(np.asarray(ids.array).astype(np.uint8))
    if components:
        ids = ids.with_array(label_pieces(ids.read()))
    around = None if image is None else _volume(image, spacing_um).array
    return measure_objects(ids.array, ids.spacing, around)


def evaluate(
    prediction: Image,
    truth: Image,
    spacing_um: SpacingUm = None,
    options: ScoreOptions | None = None,
) -> ScoredVolume:
    """Score predicted labels against true ones; true labels of 255 are left out.

    Parameters
    ----------
    prediction, truth : ndarray or Volume of integers, shape (Z, Y, X)
        Classes, 0 is background; object ids with ``ScoreOptions(ids=True)``.
    spacing_um : three floats, optional
        Voxel edges along (z, y, x) in um, for distances and volumes. By default,
        those of the volumes.
    options : ScoreOptions, optional
        The names of the classes, and whether to score objects and surfaces.

    Returns
    -------
    ScoredVolume
        ``classes`` holds the scores of each class, such as
        ``classes["nucleus"]["dice"]``.

    Raises
    ------
    AxisError
        If an array does not have three axes.
    LabelError
        If the shapes differ, or a value is not a class.
    SpacingError
        If two volumes state different spacings, or distances between surfaces are
        asked for and no spacing is known.

    Examples
    --------
    >>> import cellseg3d
    >>> truth = cellseg3d.simulate_case(24, seed=1).labels.array.clip(0, 1)
    >>> names = cellseg3d.ScoreOptions(classes=("background", "cell"))
    >>> scores = cellseg3d.evaluate(truth, truth, options=names)
    >>> scores.accuracy, scores.classes["cell"]["dice"]
    (1.0, 1.0)
    """
    return score_volume(
        _volume(prediction, spacing_um),
        _volume(truth, spacing_um),
        options or ScoreOptions(),
    )


def _volume(image: Image, spacing_um: SpacingUm) -> Volume:
    """Return an array or a volume as a volume with the given spacing, if any."""
    volume = image if isinstance(image, Volume) else Volume(np.asarray(image))
    if spacing_um is None:
        return volume
    if not isinstance(spacing_um, Spacing):
        spacing_um = Spacing.of(spacing_um)
    return replace(volume, spacing=spacing_um)
