"""The overlay shows the labels where they lie, in the colours of the label file."""

import numpy as np
import pytest

from cellseg3d.core.colours import LABEL_COLOURS, colour_labels, colour_of
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.output.contact_sheet import GAP
from cellseg3d.io.output.overlay import (
    LARGE_PANEL,
    PANEL,
    chosen_slices,
    overlay_picture,
)


def ball(shape=(20, 30, 40), centre=(5, 12, 28)):
    grid = np.indices(shape)
    apart = sum((axis - at) ** 2 for axis, at in zip(grid, centre, strict=True))
    return (apart < 25).astype(np.uint8)


def test_slices_go_through_the_labels():
    z, y, x = chosen_slices(Volume(ball()))

    assert ball()[z].sum() == ball().reshape(20, -1).sum(1)[z]
    assert abs(z - 5) <= 2
    assert (y, x) == (12, 28)
    assert chosen_slices(Volume(np.zeros((9, 7, 5), np.uint8))) == (4, 3, 2)


def test_the_picture_holds_each_slice_in_true_proportions():
    labels, spacing = Volume(ball(), Spacing(0.2, 0.1, 0.1)), Spacing(0.2, 0.1, 0.1)
    image = Volume(ball() * np.uint16(500), spacing)

    picture = overlay_picture(image, labels)

    # Edges of 4 x 3 x 4 um: the longest has `PANEL` pixels.
    assert picture.size == (PANEL + PANEL + PANEL * 3 // 4 + 2 * GAP, PANEL)
    pixels = np.asarray(picture)
    outline = (pixels == LABEL_COLOURS[1]).all(axis=2)
    assert outline.any()
    # The first panel is 30 x 40 voxels of 10.5 pixels; its outline lies on the ball.
    rows, columns = np.nonzero(outline[:, :PANEL])
    z = chosen_slices(labels)[0]
    for row, column in zip(rows, columns, strict=True):
        assert ball()[z, int(row / 10.5), int(column / 10.5)]


def test_a_2d_image_is_one_large_panel():
    labels = np.zeros((1, 10, 20), np.uint8)
    labels[0, 2:8, 2:8] = 3

    picture = overlay_picture(Volume(labels * 9), Volume(labels))

    assert picture.size == (LARGE_PANEL, LARGE_PANEL // 2)
    corner = np.asarray(picture)[2 * 42 + 5, 2 * 42 + 5]
    assert tuple(corner) == LABEL_COLOURS[3]


def test_not_annotated_is_grey_but_object_255_is_not():
    labels = np.full((1, 4, 4), 255, np.uint8)
    labels[0, 0] = 0
    image = Volume(np.zeros((1, 4, 4), np.float32))

    classes = np.asarray(overlay_picture(image, Volume(labels)))
    objects = np.asarray(overlay_picture(image, Volume(labels), ids=True))

    edge = (LARGE_PANEL * 3 // 8, LARGE_PANEL // 2)
    assert tuple(classes[edge]) == (90, 90, 90)
    assert tuple(objects[edge]) == colour_of(255)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="do not fit"):
        overlay_picture(Volume(ball()), Volume(ball()[:4]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64, np.int64])
def test_ids_of_every_dtype_have_colours(dtype):
    largest = np.iinfo(dtype).max
    ids = np.array([0, 1, 7, 8, largest], dtype)

    colours = colour_labels(ids, ids=True)

    expected = [colour_of(int(value)) for value in ids]
    np.testing.assert_array_equal(colours, expected)
