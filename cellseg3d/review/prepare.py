"""Predict volumes and write the pieces that are most worth correcting."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from cellseg3d.bundle.model import TrainedModel, networks_of
from cellseg3d.core.atomic import make_folder, write_text
from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import case_stem
from cellseg3d.datasets.resampling import nearest_on
from cellseg3d.datasets.targets import decoder_for
from cellseg3d.io.check import open_input
from cellseg3d.io.fingerprint import file_of, fingerprint
from cellseg3d.io.registry import (
    CHANNEL_NUMBERS,
    Channels,
    write_labels,
    write_volume,
)
from cellseg3d.prediction.opening import open_for
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.rescale import onto_training_grid
from cellseg3d.prediction.setup import seen_by, set_up
from cellseg3d.review.choose import TileMeans, choose
from cellseg3d.review.page import Shown, write_page
from cellseg3d.review.pieces import MACRO, PAGE, PREDICTED, Piece, Review, load_review

Progress = Callable[[int, int], None]
# The decoder of networks whose classes are labels and not parts of objects.
PLAIN = "watershed"
# Side, in voxels, of the square over which uncertainty must extend to count.
AREA = 3


@dataclass(frozen=True)
class ReviewOptions:
    """Options of a review.

    Parameters
    ----------
    n : int
        The number of pieces.
    size : int
        Longest side of a piece, in voxels.
    axis : str or None
        The axis across which slices are cut. When None, it is the axis across which
        the first network sees slices, or z for a 3D network.
    spacing_um : tuple of float, optional
        Voxel edges (z, y, x) of all volumes, in place of those of their files.
    channel, channels
        The channels to read, as for `cellseg3d.open_volume`. By default, those that
        the networks were trained on.
    """

    n: int = 20
    size: int = 512
    axis: str | None = None
    spacing_um: tuple[float, float, float] | None = None
    channel: int | str | None = None
    channels: Channels | None = None


def prepare_review(
    sources: Sequence[str],
    models: Sequence[TrainedModel],
    out: Path,
    review: ReviewOptions | None = None,
    options: SegmentOptions | None = None,
    progress: Progress | None = None,
    before: Sequence[Path] = (),
) -> Review:
    """Predict volumes and write the pieces from which the networks would learn most.

    The volumes are predicted chunk after chunk, and only the mean uncertainty of each
    tile of each slice is kept, so the memory does not grow with the volumes. If
    several networks, axes or copies are fused, uncertainty is how far they disagree.

    Parameters
    ----------
    sources : sequence of str
        Files of volumes.
    models : sequence of TrainedModel
    out : Path
        The folder to write, which is empty or does not exist.
    review : ReviewOptions, optional
    options : SegmentOptions, optional
        Options of the prediction.
    progress : callable, optional
        Is called with the voxels done and the voxels of all volumes.
    before : sequence of Path
        Earlier reviews, whose pieces and their neighbours are not picked again.

    Returns
    -------
    Review

    Raises
    ------
    ConfigError
        If the folder is not empty, a volume is given twice, or the classes are parts of
        objects.
    InputError
        If a volume cannot be used.
    """
    wanted = review or ReviewOptions()
    asked = options or SegmentOptions()
    _check(models, out, wanted)
    axis = wanted.axis or _axis_of(models[0])
    names = [str(Path(source).absolute()) for source in sources]
    if len(set(names)) < len(names):
        raise ConfigError(f"{out}: a volume is given twice; give each of them once")
    opened = [_opened(name, models, wanted) for name in names]
    means = [
        _survey(
            volume, models, asked, axis, wanted.size, _share(progress, opened, index)
        )
        for index, volume in enumerate(opened)
    ]
    known = [piece for folder in before for piece in load_review(folder).pieces]
    done = [[each.roi for each in known if each.volume == name] for name in names]
    chosen = choose(means, wanted.n, done)
    pieces = tuple(
        Piece(
            f"{number:03d}_{case_stem(names[of])}_{axis}{roi.start[axis_index(axis)]}",
            names[of],
            axis,
            roi,
            value,
        )
        for number, (of, roi, value) in enumerate(chosen, start=1)
    )
    make_folder(out)
    make_folder(out / PREDICTED)
    shown: dict[str, Shown] = {}
    for name, volume in zip(names, opened, strict=True):
        mine = [piece for piece in pieces if piece.volume == name]
        shown |= _write_pieces(volume, mine, models, asked, out)
    found = Review(
        out,
        tuple(models[0].classes),
        wanted.spacing_um,
        {name: _fingerprint(name) for name in names},
        pieces,
        tuple({"name": one.name, "sha256": one.sha256} for one in models),
        {
            name: seen
            for name, volume in zip(names, opened, strict=True)
            if (seen := _channels_of(volume))
        },
    )
    write_page(out / PAGE, found, shown)
    macro = Path(__file__).with_name(MACRO).read_text(encoding="utf-8")
    write_text(out / MACRO, macro)
    found.save()
    return found


def _opened(name: str, models: Sequence[TrainedModel], wanted: ReviewOptions) -> Volume:
    """Open a volume with the channels of the network that sees most of them."""
    volume = open_for(
        name,
        models,
        spacing=wanted.spacing_um,
        channel=wanted.channel,
        channels=wanted.channels,
    )
    return seen_by(
        volume, max(models, key=lambda each: networks_of(each)[0].spec.image_channels)
    )


def _channels_of(volume: Volume) -> list[str | int]:
    """Return the channels of a volume, as `cellseg3d.open_volume` takes them.

    The list is empty if its file has one channel without a name.
    """
    if volume.channel_names:
        return list(volume.channel_names)
    several = range(volume.channels if volume.channels > 1 else 0)
    return list(volume.provenance.get(CHANNEL_NUMBERS, several))


class PieceReader:
    """Predict labels and uncertainty of single pieces of a volume.

    Parameters
    ----------
    volume : Volume
    models : sequence of TrainedModel
    options : SegmentOptions
    warn : bool
        As for `cellseg3d.prediction.setup.set_up`.
    """

    def __init__(
        self,
        volume: Volume,
        models: Sequence[TrainedModel],
        options: SegmentOptions,
        *,
        warn: bool = True,
    ) -> None:
        self.volume = volume
        seen, pipeline = _pipeline(volume, models, options, warn=warn)
        self._answers = _Answers(pipeline, seen.shape)

    def read(self, roi: Roi) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return labels, uint8, and uncertainty, float32 in [0, 1], of a box (z, y, x).

        Both have the box's shape.
        """
        shape = self.volume.shape
        labels = nearest_on(self._answers.of("labels"), shape)[roi.slices]
        unsure = nearest_on(self._answers.of("uncertainty"), shape)[roi.slices]
        return labels.astype(np.uint8), unsure.astype(np.float32)


class _Answers:
    """The answers of a pipeline, region by region; that of the last region is kept."""

    def __init__(self, pipeline: Pipeline, shape: Zyx) -> None:
        self.pipeline, self.shape = pipeline, shape
        self._last: tuple[Roi, Any] | None = None

    def of(self, what: str) -> "_Answer":
        return _Answer(self, what)

    def chunk(self, roi: Roi) -> Any:  # noqa: ANN401
        if self._last is None or self._last[0] != roi:
            self._last = (roi, self.pipeline.run(roi))
        return self._last[1]


@dataclass(frozen=True)
class _Answer:
    """One of a pipeline's answers, as an array that is computed when it is indexed."""

    answers: _Answers
    what: str

    @property
    def shape(self) -> Zyx:
        return self.answers.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("uint8" if self.what == "labels" else "float32")

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: ANN401
        pairs = [part.indices(n) for part, n in zip(key, self.shape, strict=True)]
        start, stop = ([pair[end] for pair in pairs] for end in (0, 1))
        roi = Roi.at(start, [b - a for a, b in zip(start, stop, strict=True)])
        found: NDArray[Any] = getattr(self.answers.chunk(roi), self.what)
        return found


def _check(models: Sequence[TrainedModel], out: Path, wanted: ReviewOptions) -> None:
    if out.exists() and any(out.iterdir()):
        message = f"{out}: is not empty; choose another folder for the review"
        raise ConfigError(message)
    if wanted.n < 1 or wanted.size < 8:
        message = f"n {wanted.n}, size {wanted.size}; expected n >= 1 and size >= 8"
        raise ConfigError(message)
    classes = models[0].classes
    if decoder_for(classes) != PLAIN:
        message = (
            f"{models[0].name}: its classes {list(classes)} are parts of objects, not "
            "labels to draw; review a network of plain classes, or correct the object "
            'ids of `predict --objects` and train on them with "labels": "objects"'
        )
        raise ConfigError(message)


def _axis_of(model: TrainedModel) -> str:
    """Return the axis across which a network sees slices; z for 3D."""
    first = model.members[0] if model.members else model
    if first.spec.spatial_dims == 3:
        return "z"
    return str(first.window.get("axes") or first.spec.axis)[0]


def _pipeline(
    volume: Volume,
    models: Sequence[TrainedModel],
    options: SegmentOptions,
    *,
    warn: bool = True,
) -> tuple[Volume, Pipeline]:
    """Return the volume as the networks see it, and what predicts it."""
    seen = onto_training_grid(volume, models, rescale=options.rescale)
    asked = replace(options, uncertainty=True, probs=False)
    return seen, set_up(seen, models, asked, warn=warn)


def _survey(
    volume: Volume,
    models: Sequence[TrainedModel],
    options: SegmentOptions,
    axis: str,
    size: int,
    progress: Progress | None,
) -> TileMeans:
    seen, pipeline = _pipeline(volume, models, options)
    means = TileMeans(volume.shape, axis, size, seen.shape)
    for roi, answer in pipeline.results(pipeline.chunks(), progress):
        if answer.uncertainty is not None:
            means.add(roi, areas(answer.uncertainty, axis))
    return means


def areas(uncertainty_zyx: NDArray[np.float32], axis: str) -> NDArray[np.float32]:
    """Return uncertainty without the thin lines along the borders of objects.

    A network is unsure along every border that it finds, right or wrong, so only
    uncertain areas are worth correcting. Each voxel gets the smallest uncertainty in
    a square of `AREA` x `AREA` voxels around it, within its slice.

    Parameters
    ----------
    uncertainty_zyx : ndarray of float32, shape (z, y, x), in [0, 1]
    axis : str
        The axis across which slices are cut.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
    """
    size = [AREA, AREA, AREA]
    size[axis_index(axis)] = 1
    least: NDArray[np.float32] = minimum_filter(uncertainty_zyx, size)
    return least


def _share(
    progress: Progress | None, volumes: Sequence[Volume], index: int
) -> Progress | None:
    """Return a function that turns the progress of one volume into that of all."""
    if progress is None:
        return None
    sizes = [math.prod(volume.shape) for volume in volumes]
    before, whole, own = sum(sizes[:index]), sum(sizes), sizes[index]
    tell = progress
    return lambda done, total: tell(before + done * own // total, whole)


def _write_pieces(
    volume: Volume,
    pieces: Sequence[Piece],
    models: Sequence[TrainedModel],
    options: SegmentOptions,
    out: Path,
) -> dict[str, Shown]:
    """Write the files of a volume's pieces; return their pictures for the page."""
    if not pieces:
        return {}
    reader = PieceReader(volume, models, options, warn=False)
    shown = {}
    for piece in pieces:
        labels, unsure = reader.read(piece.roi)
        image = volume.read(piece.roi)
        edges = _edges(volume.spacing, piece)
        flat = [np.expand_dims(piece.flat(each), -3) for each in (image, labels)]
        picture = Volume(
            flat[0], edges, volume.intensity_unit, channel_names=volume.channel_names
        )
        found = Volume(flat[1], edges, provenance={"labels": True})
        write_volume(piece.image_file(out), picture)
        write_labels(piece.labels_file(out), found)
        write_labels(piece.predicted_file(out), found)
        first = picture.channel(0).read()[0]
        shown[piece.name] = Shown(first, flat[1][0], piece.flat(unsure))
    return shown


def _edges(spacing: Spacing | None, piece: Piece) -> Spacing | None:
    """Return the voxel edges of a piece: across its slice, along its rows, columns."""
    if spacing is None:
        return None
    edges = list(spacing.zyx)
    across = edges.pop(axis_index(piece.axis))
    return Spacing.of([across, *edges])


def _fingerprint(name: str) -> str | None:
    return fingerprint(name) if file_of(name).exists() else None


def open_reviewed(review: Review, name: str) -> Volume:
    """Open a volume of a review.

    Raises
    ------
    InputError
        If its file has changed since the review was made.
    """
    channels = review.channels.get(name)
    volume = open_input(name, spacing=review.spacing_um, channels=channels)
    if review.volumes.get(name) not in (None, _fingerprint(name)):
        message = (
            f"{name}: has changed since the review {review.folder} was made; review it "
            "again, or put the old file back"
        )
        raise InputError(message)
    return volume
