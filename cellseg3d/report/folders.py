"""What to report of a folder: each prediction with what belongs to it by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.io.listing import content_of, is_folder_of_volumes
from cellseg3d.scoring.pairs import (
    cases_by_stem,
    is_datalist,
    labels_by_stem,
    pair_datalist,
    pair_paths,
    stem_of_file,
)


@dataclass(frozen=True)
class Located:
    """Where the files of one volume lie; what is not known is None.

    `case` is the case of a datalist that the volume belongs to. It says how its image
    is read: which channels, and what its axes mean.
    """

    prediction: str
    truth: str | None = None
    image: str | None = None
    probs: str | None = None
    case: Case | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All that are known."""
        every = (self.prediction, self.truth, self.image, self.probs)
        return tuple(file for file in every if file is not None)


def locate_folder(
    prediction: str,
    truth: str | None,
    image: str | None,
    probs: str | None,
    *,
    datalist: Datalist | None,
    ids: bool,
) -> list[Located]:
    """Return the volumes of a folder of predictions.

    Truth pairs by stem as `cellseg3d evaluate` pairs it, or is that of the datalist's
    cases; so do images. Without a truth every prediction is shown unscored.

    Parameters
    ----------
    prediction : str
        The folder.
    truth, image, probs : str, optional
        Folders, too.
    datalist : Datalist, optional
        Gives truth and images where these are None.
    ids : bool
        Of labels and object ids of one volume, take the latter.

    Raises
    ------
    InputError
        If nothing pairs.
    """
    images = {} if image is None else _images_by_stem(image)
    cases = {} if datalist is None else cases_by_stem(datalist.cases)
    if truth is not None:
        pairs = pair_paths(prediction, truth, ids=ids).pairs
    elif datalist is not None:
        pairs = pair_datalist(prediction, datalist, ids=ids).pairs
        images = {case.name: case.image for case in datalist.cases} | images
    else:
        found = labels_by_stem(Path(prediction), ids=ids)
        return [
            Located(path, None, images.get(stem), probs) for stem, path in found.items()
        ]
    return [
        Located(
            pair.prediction,
            pair.truth,
            images.get(pair.name),
            probs,
            cases.get(pair.name),
        )
        for pair in pairs
    ]


def locate(
    predictions: Sequence[str],
    truths: Sequence[str],
    images: Sequence[str],
    probs: Sequence[str],
    *,
    datalist: Datalist | None = None,
    ids: bool = False,
) -> list[Located]:
    """Return the volumes to report, from files in the same order or from a folder.

    Truths and images that are not given are those of the datalist's cases.

    Raises
    ------
    ConfigError
        If the numbers of files differ.
    InputError
        If the files of a folder do not pair.
    """
    cases = {} if datalist is None else cases_by_stem(datalist.cases)
    given = {"truth": truths, "image": images, "probs": probs}
    for option, paths in given.items():
        if paths and len(paths) != len(predictions):
            message = (
                f"`prediction` is given {len(predictions)} times but `{option}` "
                f"{len(paths)}; give one `{option}` for each prediction, in the same "
                "order"
            )
            raise ConfigError(message)
    found = []
    for index, prediction in enumerate(predictions):
        truth, image, prob = (
            paths[index] if paths else None for paths in given.values()
        )
        if is_folder_of_volumes(Path(prediction)):
            of_folder = None if truth is None or is_datalist(truth) else truth
            found += locate_folder(
                prediction, of_folder, image, prob, datalist=datalist, ids=ids
            )
        else:
            case = cases.get(stem_of_file(prediction))
            if case is not None:
                truth, image = truth or case.label, image or case.image
            found.append(Located(prediction, truth, image, prob, case))
    return found


def _images_by_stem(folder: str) -> dict[str, str]:
    """Return the images of a folder by stem; labels that lie there are no images."""
    images = content_of(Path(folder)).to_segment
    return {stem_of_file(str(path)): str(path) for path in images}
