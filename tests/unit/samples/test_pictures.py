import numpy as np
from coded_volumes import coded
from PIL import Image

from cellseg3d.core.colours import colour_of
from cellseg3d.samples.loaders import SampleDataset
from cellseg3d.samples.pictures import (
    draw_outlines,
    preview_picture,
    write_preview,
)
from cellseg3d.samples.transforms import RandSymmetryd

SHAPE = (6, 64, 64)


def square_case(make_case):
    label = np.zeros(SHAPE, np.uint8)
    label[:, 20:40, 24:44] = 1
    image = coded(SHAPE) * 0 - 3e5
    image[label == 1] = 3e5
    return make_case(image, label)


def test_outlines_are_drawn_inside_each_class_and_the_rest_is_grey():
    image = np.zeros((7, 9), np.float32)
    label = np.zeros((7, 9), np.uint8)
    label[2:5, 3:7] = 2
    label[:, 8] = 255

    picture = draw_outlines(image, label)

    inner = np.zeros((7, 9), bool)
    inner[2:5, 3:7] = True
    inner[3, 4:6] = False
    coloured = (picture == colour_of(2)).all(axis=2)
    np.testing.assert_array_equal(coloured, inner)
    assert picture[0, 0].tolist() == [127] * 3
    assert picture[0, 8].tolist() == [63] * 3


def test_before_and_after_stand_side_by_side(make_case):
    spec = {"spatial_dims": 2, "patch_shape": (64, 64)}
    still = SampleDataset([square_case(make_case)], spec, 3)

    picture = np.asarray(preview_picture(still, count=1, classes=("background", "c")))

    rows = slice(54, 54 + 192)
    before, after = picture[rows, 8:200], picture[rows, 208:400]
    np.testing.assert_array_equal(before, after)
    assert (before == colour_of(1)).all(axis=2).sum() > 200
    assert before[90, 100].tolist() == [255] * 3
    assert before[2, 2].tolist() == [0] * 3


def test_augmentation_shows_and_the_dataset_keeps_its_transform(make_case, tmp_path):
    for spec in (
        {"spatial_dims": 2, "patch_shape": (48, 48), "context": 1},
        {"spatial_dims": 3, "patch_shape": (4, 48, 48)},
    ):
        transform = RandSymmetryd()
        dataset = SampleDataset([square_case(make_case)], spec, 4, transform)

        write_preview(dataset, tmp_path / "p.png", count=9)

        picture = np.asarray(Image.open(tmp_path / "p.png"))
        rows = slice(54, 54 + 192)
        assert (picture[rows, 8:200] != picture[rows, 208:400]).any()
        assert dataset.transform is transform
