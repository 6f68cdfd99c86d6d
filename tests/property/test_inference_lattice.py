"""Windows tile any volume, and what they say is what the whole volume says."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from network_facts import network_facts
from processor import PRECISIONS
from small_models import noise_volume, small_model, whole_pass

from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi
from cellseg3d.models.geometry import geometry_of
from cellseg3d.models.hardware import choose_hardware
from cellseg3d.prediction.field import ArrayField
from cellseg3d.prediction.inferer import VolumeInferer
from cellseg3d.prediction.lattice import WindowSettings, fit, lattice_of
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import CHUNK_VOXELS, ROWS_VOXELS, chunk_of_one
from cellseg3d.prediction.setup import set_up
from cellseg3d.prediction.windows import blend_windows

EXAMPLES = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# Primes, one slice, smaller than a window, several windows.
shapes = st.tuples(st.integers(1, 19), st.integers(2, 37), st.integers(2, 41))
MODELS = {
    "3D": small_model(),
    "3D basic": small_model(name="basic_unet", classes=3),
    "2.5D": small_model(dims=2, context=1),
    "2D residual": small_model(dims=2, name="residual_unet", classes=3),
}


@given(side=st.integers(1, 500), most=st.integers(1, 200), step=st.integers(1, 16))
def test_cores_fit_an_axis_with_as_few_windows_as_can_be(side, most, step):
    core = fit(side, most, step)

    roomiest = -(-most // step) * step
    assert core % step == 0
    assert core <= roomiest
    assert math.ceil(side / core) == math.ceil(side / roomiest)


sides = st.integers(1, 1500)


@settings(EXAMPLES, max_examples=200)
@given(shape=st.tuples(sides, sides, sides), core=st.tuples(sides, sides, sides))
def test_a_chunk_is_whole_windows_and_no_larger_than_it_must_be(shape, core):
    chunk = chunk_of_one(core, shape)

    inside, least = (math.prod(map(min, part, shape)) for part in (chunk, core))
    assert all(side % one == 0 for side, one in zip(chunk, core, strict=True))
    assert inside <= max(least, ROWS_VOXELS)
    if chunk[2] < shape[2]:
        wider = (chunk[0], chunk[1], chunk[2] + core[2])
        assert math.prod(map(min, wider, shape)) > CHUNK_VOXELS


def test_the_rows_of_a_tomogram_are_whole():
    """Rows in part are written one by one, 320,000 calls for a volume of 400^3."""
    assert chunk_of_one((416, 224, 224), (400, 400, 400)) == (416, 224, 448)
    assert chunk_of_one((448, 224, 224), (2048, 2048, 2048)) == (448, 224, 224)


@EXAMPLES
@given(
    shape=shapes,
    core=st.integers(1, 30),
    halo=st.integers(0, 20),
    block=st.integers(3, 25),
    kind=st.sampled_from(["3D", "2.5D"]),
)
def test_every_voxel_is_written_exactly_once(shape, core, halo, block, kind):
    model = MODELS[kind]
    window = WindowSettings.parse({"core": core, "halo": halo, "batch": 3}, model.spec)
    stride = geometry_of(model.network).stride
    lattice = lattice_of(shape, model.spec, stride, window, "y")
    written = np.zeros(shape, int)

    for tile in lattice.windows():
        written[tile.write.slices] += 1
        assert all(
            start % step == 0
            for start, step in zip(tile.write.start, lattice.stride, strict=True)
        )
    for chunk in blocks(shape, block):
        seen = np.zeros(shape, int)
        for tile in lattice.windows(chunk):
            seen[tile.write.intersect(chunk).slices] += 1
        assert (seen[chunk.slices] == 1).all()

    assert (written == 1).all()


@EXAMPLES
@given(
    shape=shapes,
    core=st.integers(4, 24),
    kind=st.sampled_from(sorted(MODELS)),
    acceleration=st.sampled_from(["off", "auto"]),
)
def test_windows_with_the_whole_halo_equal_one_pass(shape, core, kind, acceleration):
    model = MODELS[kind]
    halo = max(network_facts(model.network).halo)
    volume = noise_volume(shape)
    expected = whole_pass(model, volume)
    offset, factor = model.intensity.measure(volume)
    image = model.intensity.apply(volume.read(), offset, factor)
    window = {"core": core, "halo": halo}
    inferer = VolumeInferer(model.spec, window, "float32", acceleration=acceleration)

    found = inferer(torch.from_numpy(image)[None, None], model.network)[0].numpy()

    # Float32 rounding of sums in another order, and of folded norms.
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@EXAMPLES
@given(
    shape=shapes,
    block=st.integers(5, 40),
    batch=st.integers(1, 4),
    kind=st.sampled_from(sorted(MODELS)),
    how=st.sampled_from(
        [{"acceleration": "off"}, *({"precision": name} for name in PRECISIONS)]
    ),
)
def test_labels_do_not_depend_on_block_or_batch(shape, block, batch, kind, how):
    model = replace(MODELS[kind], window={"core": 12, "halo": 4, "axes": "zx"})
    volume = noise_volume(shape)
    reference = set_up(volume, [model], SegmentOptions(**how))
    other = set_up(volume, [model], SegmentOptions(**how, batch=batch))
    other = replace(other, chunk=(block, block, block))

    np.testing.assert_array_equal(labels(reference), labels(other))


def labels(pipeline):
    found = np.full(pipeline.shape, 99, np.uint8)
    for chunk in pipeline.chunks():
        found[chunk.slices] = pipeline.run(chunk).labels
    return found


@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("kind", ["3D", "2.5D"])
def test_labels_do_not_depend_on_threads(kind, threads):
    model = replace(MODELS[kind], window={"core": 16, "halo": 8})
    volume = noise_volume((13, 31, 29))
    pipeline = set_up(volume, [model], SegmentOptions(probs=True))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = pipeline.run(Roi.whole(volume.shape)).probs
        torch.set_num_threads(threads)
        many = pipeline.run(Roi.whole(volume.shape)).probs
    finally:
        torch.set_num_threads(before)

    np.testing.assert_array_equal(one, many)
    assert one.std() > 1e-3


@EXAMPLES
@given(
    shape=shapes,
    core=st.integers(2, 16),
    halo=st.integers(2, 9),
    block=st.integers(4, 40),
    level=st.floats(0.05, 0.95),
)
def test_blending_keeps_a_constant(shape, core, halo, block, level):
    model = MODELS["3D"]
    window = WindowSettings.parse({"core": core, "halo": halo}, model.spec)
    lattice = lattice_of(shape, model.spec, (2, 2, 2), window)
    field = ArrayField(np.zeros((1, *shape), np.float32))
    chunk = Roi((0, 0, 0), (block, block, block)).clip(shape)

    parts = list(blend_windows(field, Constant(level), lattice, chunk, 16))

    ((roi, logits),) = parts
    assert roi == chunk
    np.testing.assert_allclose(logits.softmax(0)[1].numpy(), level, rtol=1e-4)


class Constant:
    """A network that is of one opinion everywhere."""

    hardware = choose_hardware("cpu", "float32")

    def __init__(self, level):
        self.opinion = torch.tensor([math.log(1 - level), math.log(level)])

    def logits(self, read, window, keep, planes):
        shape = [part.stop - part.start for part in keep]
        yield keep[0].start, self.opinion.view(2, 1, 1, 1).expand(2, *shape)


@settings(EXAMPLES, max_examples=4)
@given(shape=shapes, block=st.integers(14, 40))
def test_blended_labels_do_not_depend_on_blocks(shape, block):
    model = small_model(norm="instance", core=8, halo=4)
    volume = noise_volume(tuple(max(4, side) for side in shape))
    pipeline = set_up(volume, [model], SegmentOptions(precision="float32"))
    other = replace(pipeline, chunk=(block, block, block))

    np.testing.assert_array_equal(labels(pipeline), labels(other))


@settings(EXAMPLES, max_examples=4)
@given(shape=shapes, block=st.integers(14, 40))
def test_blended_slices_do_not_depend_on_blocks_and_meet_smoothly(shape, block):
    model = small_model(dims=2, norm="instance", core=8, halo=4)
    volume = noise_volume(tuple(max(6, side) for side in shape))
    pipeline = set_up(volume, [model], SegmentOptions(precision="float32"))
    other = replace(pipeline, chunk=(block, block, block))

    np.testing.assert_array_equal(labels(pipeline), labels(other))


def test_slices_with_instance_norm_are_blended_where_they_are_tiled(caplog):
    model = small_model(dims=2, norm="instance", core=16, halo=8)
    volume = noise_volume((3, 40, 40))
    options = SegmentOptions(precision="float32", probs=True)

    blended = set_up(volume, [model], options).run(Roi.whole(volume.shape)).probs
    assert "blended" in caplog.text
    caplog.clear()
    fits = replace(model, window={"core": 64, "halo": 8})
    whole = set_up(volume, [fits], options).run(Roi.whole(volume.shape)).probs

    assert "blended" not in caplog.text
    # Across the seam at 16 the blend changes no more than the whole slice does.
    jumps = [
        np.abs(each[:, :, 16] - each[:, :, 15]).mean() for each in (blended, whole)
    ]
    assert jumps[0] < 1.5 * jumps[1]
    offset, factor = model.intensity.measure(volume)
    image = model.intensity.apply(volume.read(), offset, factor)
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(image)[:, None]).softmax(1)
    np.testing.assert_allclose(whole, expected.movedim(0, 1), atol=1e-4)
