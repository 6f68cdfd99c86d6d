"""Voxels of another size than the training's are told where a network sees them."""

from dataclasses import replace

import pytest
from small_models import noise_volume, small_model

from cellseg3d.core.spacing import Spacing
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment

TRAINED = Spacing(0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("dims", "context", "edges", "told"),
    [
        (2, 0, (0.3, 0.1, 0.1), False),
        (2, 0, (0.1, 0.3, 0.1), True),
        (2, 1, (0.3, 0.1, 0.1), True),
        (3, 0, (0.3, 0.1, 0.1), True),
        (3, 0, (0.1, 0.12, 0.1), False),
    ],
)
def test_an_edge_that_the_network_sees_is_told(dims, context, edges, told, caplog):
    model = replace(small_model(dims, context), spacing_um=TRAINED)
    volume = noise_volume((8, 16, 16), spacing=edges)
    segment(volume, model, SegmentOptions(precision="float32"))
    assert ("pass `rescale` to resample it" in caplog.text) is told
