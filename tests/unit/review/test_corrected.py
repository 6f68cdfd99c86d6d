"""Corrected labels come back from other programs in many types."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellseg3d.core.colours import LABEL_COLOURS, UNKNOWN_COLOUR
from cellseg3d.core.errors import InputError, LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import read_labels, write_labels
from cellseg3d.review.corrected import read_corrected

CLASSES = ("background", "shell", "core")
LABELS = np.array([[0, 1, 2, 1], [2, 2, 255, 0], [0, 0, 1, 1]], np.uint8)


def save_16_bit(path):
    tifffile.imwrite(path, LABELS.astype(np.uint16))


def save_float(path):
    tifffile.imwrite(path, LABELS.astype(np.float32))


def save_without_spacing(path):
    write_labels(path, Volume(LABELS[None]))


def save_with_another_spacing(path):
    write_labels(path, Volume(LABELS[None], Spacing(1, 7, 7)))


def save_by_imagej(path):
    tifffile.imwrite(path, LABELS, imagej=True, metadata={"min": 0.0, "max": 2.0})


def save_with_a_palette(path):
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 1] = 65535
    tifffile.imwrite(path, LABELS, photometric="palette", colormap=colours)


def save_inverted_for_display(path):
    tifffile.imwrite(path, LABELS, photometric="miniswhite")


def save_compressed(path):
    tifffile.imwrite(path, LABELS, compression="lzw")


def save_in_our_colours(path):
    colours = np.zeros((*LABELS.shape, 3), np.uint8)
    for value in range(3):
        colours[np.equal(LABELS, value)] = LABEL_COLOURS[value]
    colours[LABELS == 255] = UNKNOWN_COLOUR
    Image.fromarray(colours).save(path)


@pytest.mark.parametrize(
    "save",
    [
        save_16_bit,
        save_float,
        save_without_spacing,
        save_with_another_spacing,
        save_by_imagej,
        save_with_a_palette,
        save_compressed,
        save_in_our_colours,
    ],
)
def test_every_type_gives_the_same_labels(tmp_path, save):
    path = tmp_path / "a_labels.tif"
    save(path)

    found = read_corrected(path, LABELS.shape, CLASSES)

    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, LABELS)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (LABELS.astype(np.float32) + 0.5, "12 label values are not whole numbers"),
        (np.where(LABELS == 2, 7, LABELS), "7 (3 pixels)"),
        (np.where(LABELS == 2, 127, LABELS), "Scale when converting"),
        (np.where(LABELS > 0, 255, 0).astype(np.uint8), "Divide by 255"),
        (LABELS[:2], "expected (3, 4)"),
        (np.repeat(LABELS[None], 2, axis=0), "expected (3, 4)"),
    ],
)
def test_what_cannot_be_labels_is_refused_with_the_way_out(tmp_path, values, said):
    path = tmp_path / "a_labels.tif"
    tifffile.imwrite(path, values, photometric="minisblack")

    with pytest.raises(InputError) as caught:
        read_corrected(path, LABELS.shape, CLASSES)

    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_foreign_colours_are_refused(tmp_path):
    path = tmp_path / "a_labels.tif"
    Image.fromarray(np.full((3, 4, 3), (250, 0, 0), np.uint8)).save(path)

    with pytest.raises(LabelError, match=r"\[250, 0, 0\] is no label's.*8-bit"):
        read_corrected(path, LABELS.shape, CLASSES)


def test_a_missing_file_is_named_with_the_way_out(tmp_path):
    path = tmp_path / "a_labels.tif"

    with pytest.raises(InputError, match=r"a_labels.tif: is missing.*predicted"):
        read_corrected(path, LABELS.shape, CLASSES)


def test_labels_that_we_write_are_coloured_in_imagej(tmp_path):
    path = tmp_path / "a_labels.tif"
    write_labels(path, Volume(LABELS[None], Spacing(0.1, 0.1, 0.1)))

    with tifffile.TiffFile(path) as tif:
        # ImageJ takes the colours of every page from this tag, and no other place.
        tags = [page.tags["ColorMap"].value for page in tif.pages]
        table = np.asarray(tags[0]).reshape(3, 256) // 257
        assert tif.imagej_metadata["max"] == 255
    shown = [tuple(table[:, value].tolist()) for value in (0, 1, 2, 255)]

    assert shown == [*LABEL_COLOURS[:3], UNKNOWN_COLOUR]
    np.testing.assert_array_equal(read_labels(path).read()[0], LABELS)
