"""Slices smaller than those of the training are seen as in training: mirrored."""

import numpy as np
import pytest
from small_models import noise_volume, small_model

from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.prediction.field import ArrayField, MirroredField
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.samples.crops import crop_image


@pytest.mark.parametrize("shape", [(3, 5, 20), (2, 1, 7), (1, 9, 16)])
def test_a_field_is_mirrored_as_a_training_sample_is(shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    spec = InputSpec(2, (16, 16))
    scale = IntensityScale("range", -1, 1)

    for z in range(shape[0]):
        sample = crop_image(image, (z, 0, 0), spec, "z", (scale, 0.0, 1.0))
        seen = MirroredField(ArrayField(image[None]), (shape[0], 16, max(16, shape[2])))
        found = seen.read(Roi((z, 0, 0), (z + 1, 16, 16)))
        np.testing.assert_array_equal(found[0], sample.clip(-3, 3))


def test_beyond_the_mirrored_part_its_border_is_repeated():
    image = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    seen = MirroredField(ArrayField(image), (1, 5, 4))

    rows = seen.read(Roi((0, -1, 0), (1, 6, 1)))[0, 0, :, 0]

    assert rows.tolist() == [4, 4, 0, 4, 8, 4, 4]


@pytest.mark.parametrize("axes", ["z", "zyx"])
@pytest.mark.parametrize("tta", [False, True])
def test_a_small_volume_gets_the_labels_of_its_mirrored_whole(axes, tta):
    model = small_model(dims=2, context=1)
    volume = noise_volume((12, 10, 14))
    low = [(16 - side) // 2 for side in volume.shape]
    pads = [(a, 16 - side - a) for a, side in zip(low, volume.shape, strict=True)]

    for axis in axes:
        own = [
            (0, 0) if letter == axis else pad
            for letter, pad in zip("zyx", pads, strict=True)
        ]
        whole = type(volume)(np.pad(volume.array, own, mode="reflect"), volume.spacing)
        model.intensity = IntensityScale("range", 60, 140)
        options = SegmentOptions(axes=axis, precision="float32", tta=tta, probs=True)
        inner = tuple(
            slice(a, a + side) for (a, _), side in zip(own, volume.shape, strict=True)
        )
        expected = segment(whole, model, options).probs[(slice(None), *inner)]
        found = segment(volume, model, options).probs
        np.testing.assert_allclose(found, expected, atol=1e-5)
