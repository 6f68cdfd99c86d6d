"""Pieces of several channels are shown, corrected and merged into a data set."""

import numpy as np
import pytest
import tifffile
from small_models import small_model
from two_stains import NAMES, two_stains, write_stains

from cellseg3d.cli.main import main
from cellseg3d.core.errors import AxisError
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import open_volume, write_labels
from cellseg3d.review.gain import gains
from cellseg3d.review.merge import load_reviewed, merge_reviews
from cellseg3d.review.pieces import load_review
from cellseg3d.review.prepare import ReviewOptions, prepare_review

IMAGE, TRUTH = two_stains(1, shape=(6, 24, 20))
THREE = np.stack([IMAGE[1], IMAGE[0] // 2, IMAGE[0]])


def named(folder):
    return write_stains(folder / "cell.ome.tif", THREE, ("actin", "tubulin", "DAPI"))


def unnamed(folder):
    stack = np.moveaxis(THREE, 0, 1)
    about = {"axes": "ZCYX", "spacing": 0.2, "unit": "um"}
    tifffile.imwrite(
        folder / "cell.tif",
        stack,
        imagej=True,
        metadata=about,
        resolution=(10, 10),
    )
    return folder / "cell.tif"


@pytest.mark.parametrize("axis", ["z", "x"])
@pytest.mark.parametrize(
    ("write", "asked", "known"),
    [(named, None, list(NAMES)), (unnamed, (2, 0), [2, 0])],
)
def test_pieces_and_data_set_hold_the_channels_of_the_network(
    tmp_path, write, asked, known, axis
):
    place = write(tmp_path)
    model = small_model(dims=3, channels=NAMES, core=16, halo=8)
    options = ReviewOptions(n=3, size=16, axis=axis, channels=asked)

    prepare_review([str(place)], [model], tmp_path / "review", options)

    review = load_review(tmp_path / "review")
    assert dict(review.channels) == {str(place): known}
    for piece in review.pieces:
        shown = open_volume(piece.image_file(review.folder), channels="all").read()
        box = (slice(None), *piece.roi.slices)
        np.testing.assert_array_equal(shown[:, 0], piece.flat(IMAGE[box]))
        right = piece.flat(TRUTH[piece.roi.slices])[None]
        write_labels(piece.labels_file(review.folder), Volume(right))
    merge_reviews([review.folder], tmp_path / "merged")
    (case,) = load_datalist(tmp_path / "merged").cases
    np.testing.assert_array_equal(case.open_image().read(), IMAGE)
    found = gains(load_reviewed(tmp_path / "merged"), [model])["trained on"]
    assert found["after"] == pytest.approx(found["before"])


def test_imagej_opens_a_piece_as_a_composite_of_its_channels(tmp_path):
    model = small_model(dims=3, channels=NAMES)
    options = ReviewOptions(n=1, size=16)

    prepare_review([str(named(tmp_path))], [model], tmp_path / "review", options)

    (piece,) = load_review(tmp_path / "review").pieces
    with tifffile.TiffFile(piece.image_file(tmp_path / "review")) as file:
        assert file.imagej_metadata["channels"] == 2
        assert file.imagej_metadata["mode"] == "composite"
        assert file.series[0].axes == "CYX"


def test_a_network_of_one_channel_reviews_the_one_named(tmp_path):
    place, model = named(tmp_path), small_model(dims=3)
    with pytest.raises(AxisError, match="holds 3 channels"):
        prepare_review([str(place)], [model], tmp_path / "review")
    options = ReviewOptions(n=1, size=16, channel="DAPI")

    prepare_review([str(place)], [model], tmp_path / "review", options)

    review = load_review(tmp_path / "review")
    (piece,) = review.pieces
    shown = open_volume(piece.image_file(review.folder)).read()
    np.testing.assert_array_equal(shown[0], piece.flat(IMAGE[0][piece.roi.slices]))
    right = 1 - piece.flat(TRUTH[piece.roi.slices])[None]
    write_labels(piece.labels_file(review.folder), Volume(right))
    assert main(["review", "merge", str(review.folder)]) == 0
    (case,) = load_datalist(review.folder / "merged").cases
    assert case.channel == "DAPI"
    np.testing.assert_array_equal(case.open_image().read(), IMAGE[0])
