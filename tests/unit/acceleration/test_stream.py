"""A window that runs some planes at a time answers as in one pass."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import BasicUNet, UNet
from torch import nn

from cellseg3d.acceleration.prepare import prepare, stream_halving
from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.prediction.lattice import CORE_3D, WindowPlan, lattice_of

FACTS = {"norm": "batch"}
NETS = {
    "residual": lambda: UNet(3, 1, 2, (4, 8, 16), (2, 2), num_res_units=2, **FACTS),
    "flat first": lambda: UNet(3, 1, 3, (4, 8, 16), ((1, 2, 2), (2, 2, 2)), **FACTS),
    "two images": lambda: UNet(3, 2, 2, (4, 8, 8), (2, 2), **FACTS),
    "pooled": lambda: BasicUNet(3, 1, 2, (4, 4, 8, 8, 8, 4), **FACTS),
}


def network_of(name):
    """Return a network whose batch norms have seen something."""
    torch.manual_seed(3)
    network = NETS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


ENGINES = {name: prepare(network_of(name), "cpu", "float32") for name in NETS}


def streamed(engine, image, keep, depth):
    found = []
    slabs = engine.planes(
        lambda low, high: image[:, :, low:high], image.shape[2:], keep, depth
    )
    for (low, high), logits in slabs:
        assert logits.shape[2] == high - low
        found.append((low, high, logits.clone()))
    assert [f[0] for f in found] == [keep[0].start, *(f[1] for f in found[:-1])]
    assert found[-1][1] == keep[0].stop
    return torch.cat([f[2] for f in found], 2)


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_planes_in_turn_equal_one_pass(name, data):
    engine = ENGINES[name]
    step = max(engine.geometry.stride)
    sides = [step * data.draw(st.integers(1, 48 // step)) for _ in range(3)]
    keep = []
    for side in sides:
        low = data.draw(st.integers(0, side - 1))
        keep.append(slice(low, data.draw(st.integers(low + 1, side))))
    depth = data.draw(st.integers(1, 50))
    generator = torch.Generator().manual_seed(sum(sides))
    image = torch.randn(1, engine.geometry.channels, *sides, generator=generator)

    whole = engine(image)[(slice(None), slice(None), *keep)]
    found = streamed(engine, image, tuple(keep), depth)

    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_longer_window_takes_no_more_memory(name):
    engine = ENGINES[name]
    peaks = []
    for length in (192, 384):
        held = []
        sides = (length, 16, 16)
        box = tuple((0, side) for side in sides)
        image = torch.zeros(1, engine.geometry.channels, *sides)
        read = lambda low, high, image=image: image[:, :, low:high].clone()  # noqa: E731
        with torch.inference_mode():
            for _ in engine.stream.run(read, sides, box, meter=held.append):
                pass
        peaks.append(max(held))

    assert peaks[1] == peaks[0]
    assert peaks[0] / 16**2 <= 1.01 * engine.bytes_per_pixel


def test_every_plane_is_read_once():
    engine = ENGINES["residual"]
    image = torch.randn(1, 1, 96, 16, 16)
    seen = []

    def read(low, high):
        seen.append((low, high))
        return image[:, :, low:high]

    keep = (slice(8, 80), slice(0, 16), slice(0, 16))
    for _ in engine.planes(read, image.shape[2:], keep, 16):
        pass

    assert [low for low, _ in seen[1:]] == [high for _, high in seen[:-1]]
    # What the network reaches beyond what is kept, and no more, on either side.
    assert seen[0][0] == 0
    assert seen[-1][1] == 96
    assert max(high - low for low, high in seen) <= 48


def test_out_of_memory_takes_fewer_planes_and_goes_on(monkeypatch, caplog):
    engine = ENGINES["pooled"]
    image = torch.randn(1, 1, 64, 16, 16)
    keep = (slice(0, 64), slice(0, 16), slice(0, 16))
    whole = engine(image, keep)
    planes = type(engine).planes
    began = itertools.count()

    def scarce(self, read, sides, rest, depth):
        for index, slab in enumerate(planes(self, read, sides, rest, depth)):
            if index == 1 and next(began) == 0:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            if depth > 4 and index > 1:
                raise MemoryError
            yield slab

    monkeypatch.setattr(type(engine), "planes", scarce)
    answered = np.zeros(64, int)
    found = torch.zeros_like(whole)
    for (low, high), logits in stream_halving(
        engine, lambda low, high: image[:, :, low:high], (64, 16, 16), keep
    ):
        answered[low:high] += 1
        found[:, :, low:high] = logits

    assert (answered == 1).all()
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
    assert "planes at a time" in caplog.text

    def none(self, read, sides, rest, depth):
        raise MemoryError
        yield

    monkeypatch.setattr(type(engine), "planes", none)
    with pytest.raises(EnvironmentFault, match=r"16, 16.*smaller window"):
        list(stream_halving(engine, None, (64, 16, 16), keep))


def test_networks_that_see_their_window_are_not_streamed():
    network = UNet(3, 1, 2, (4, 8), (2,), norm="instance").eval()
    assert prepare(network, "cpu", "float32").stream is None


@given(
    shape=st.tuples(*[st.integers(1, 3000)] * 3),
    halo=st.sampled_from([0, 16, 32, 64]),
    pixels=st.integers(1, 400_000),
)
def test_streamed_windows_are_as_wide_as_they_may(shape, halo, pixels):
    spec = InputSpec(3, (96,) * 3)
    plan = WindowPlan.parse({"halo": halo}, spec)

    lattice = lattice_of(shape, spec, (16,) * 3, plan, None, pixels)

    _, height, width = lattice.window
    least = 112 + 2 * halo + 16
    assert height * width <= max(pixels, least * max(height, width))
    assert all(core % 16 == 0 for core in lattice.core)
    if height * width > pixels:
        assert min(lattice.core[1:]) <= CORE_3D
