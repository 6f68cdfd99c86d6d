"""A window that runs some planes at a time answers as in one pass."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import BasicUNet, UNet
from torch import nn

from cellseg3d.acceleration.prepare import STREAMED_SLACK, prepare
from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.models.hardware import choose_hardware
from cellseg3d.prediction.lattice import CORE_3D, WindowSettings, lattice_of
from cellseg3d.prediction.scarce_memory import logits_in_scarce_memory

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


SPEC = InputSpec(3, (48, 48, 48))
FLOAT32 = choose_hardware("cpu", "float32")
READY = {name: prepare(network_of(name), SPEC, FLOAT32) for name in NETS}


def streamed(network, image, keep, depth):
    found = []
    window = tuple(image.shape[2:])
    slabs = network.logits(lambda low, high: image[0, :, low:high], window, keep, depth)
    expected = keep[0].start
    for low, logits in slabs:
        assert low == expected
        expected += logits.shape[1]
        found.append(logits.clone())
    assert expected == keep[0].stop
    return torch.cat(found, 1)[None]


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_planes_in_turn_equal_one_pass(name, data):
    network = READY[name]
    step = max(network.geometry.stride)
    sides = [step * data.draw(st.integers(1, 48 // step)) for _ in range(3)]
    keep = []
    for side in sides:
        low = data.draw(st.integers(0, side - 1))
        keep.append(slice(low, data.draw(st.integers(low + 1, side))))
    depth = data.draw(st.integers(1, 50))
    generator = torch.Generator().manual_seed(sum(sides))
    image = torch.randn(1, network.geometry.channels, *sides, generator=generator)

    whole = network.run(image)[(slice(None), slice(None), *keep)]
    found = streamed(network, image, tuple(keep), depth)

    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_longer_window_takes_no_more_memory(name):
    network = READY[name]
    peaks = []
    for length in (192, 384):
        held = []
        sides = (length, 16, 16)
        box = tuple((0, side) for side in sides)
        image = torch.zeros(1, network.geometry.channels, *sides)
        read = lambda low, high, image=image: image[:, :, low:high].clone()  # noqa: E731
        with torch.inference_mode():
            for _ in network.stream.run(read, sides, box, 16, meter=held.append):
                pass
        peaks.append(max(held))

    assert peaks[1] == peaks[0]
    # Layers that compute a little more than is kept of it hold that, too.
    assert peaks[0] * STREAMED_SLACK <= 1.1 * network.held_bytes((384, 16, 16), 16)


def test_every_plane_is_read_once():
    network = READY["residual"]
    image = torch.randn(1, 1, 96, 16, 16)
    seen = []

    def read(low, high):
        seen.append((low, high))
        return image[0, :, low:high]

    keep = (slice(8, 80), slice(0, 16), slice(0, 16))
    for _ in network.logits(read, (96, 16, 16), keep, 16):
        pass

    assert [low for low, _ in seen[1:]] == [high for _, high in seen[:-1]]
    # What the network reaches beyond what is kept, and no more, on either side.
    assert seen[0][0] == 0
    assert seen[-1][1] == 96
    assert max(high - low for low, high in seen) <= 48


def test_out_of_memory_takes_fewer_planes_and_goes_on(monkeypatch, caplog):
    network = READY["pooled"]
    image = torch.randn(1, 1, 64, 16, 16)
    keep = (slice(0, 64), slice(0, 16), slice(0, 16))
    whole = network.run(image, keep)[0]
    logits_of = type(network).logits
    began = itertools.count()

    def scarce(self, read, window, rest, depth):
        for index, slab in enumerate(logits_of(self, read, window, rest, depth)):
            if index == 1 and next(began) == 0:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            if depth > 4 and index > 1:
                raise MemoryError
            yield slab

    monkeypatch.setattr(type(network), "logits", scarce)
    answered = np.zeros(64, int)
    found = torch.zeros_like(whole)
    for low, logits in logits_in_scarce_memory(
        network, lambda low, high: image[0, :, low:high], (64, 16, 16), keep, 16
    ):
        place = slice(low, low + logits.shape[1])
        answered[place] += 1
        found[:, place] = logits

    assert (answered == 1).all()
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
    assert "planes at a time" in caplog.text

    def none(self, read, window, rest, depth):
        raise MemoryError
        yield

    monkeypatch.setattr(type(network), "logits", none)
    with pytest.raises(EnvironmentFault, match=r"16, 16.*smaller window"):
        list(logits_in_scarce_memory(network, None, (64, 16, 16), keep, 16))


def test_networks_that_see_their_window_are_not_streamed():
    network = UNet(3, 1, 2, (4, 8), (2,), norm="instance").eval()
    assert prepare(network, SPEC, FLOAT32).stream is None


@given(
    shape=st.tuples(*[st.integers(1, 3000)] * 3),
    halo=st.sampled_from([0, 16, 32, 64]),
    pixels=st.integers(1, 400_000),
)
def test_streamed_windows_are_as_wide_as_they_may(shape, halo, pixels):
    spec = InputSpec(3, (96,) * 3)
    window = WindowSettings.parse({"halo": halo}, spec)

    lattice = lattice_of(shape, spec, (16,) * 3, window, None, pixels)

    _, height, width = lattice.window
    least = 112 + 2 * halo + 16
    assert height * width <= max(pixels, least * max(height, width))
    assert all(core % 16 == 0 for core in lattice.core)
    if height * width > pixels:
        assert min(lattice.core[1:]) <= CORE_3D
