"""A rewritten network answers as the one it came from."""

import copy

import numpy as np
import pytest
import torch
from processor import needs_bfloat16
from small_models import noise_volume, small_model

from cellseg3d.acceleration.folding import fold
from cellseg3d.acceleration.merged import MergedConv, SubpixelUp, merge_calls
from cellseg3d.acceleration.prepare import prepare
from cellseg3d.acceleration.rounding import shaped
from cellseg3d.acceleration.trim import TrimmedNetwork, cuts_for
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.models.geometry import geometry_of
from cellseg3d.models.hardware import choose_hardware
from cellseg3d.models.layout import memory_layout
from cellseg3d.models.unet import build_network
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment

NAMES = ("unet", "residual_unet", "basic_unet", "segresnet", "attention_unet")


def network(name, dims, norm="batch"):
    if name in ("segresnet", "attention_unet"):
        options = {"init_filters": 8} if name == "segresnet" else {"channels": (8, 16)}
        torch.manual_seed(0)
        return build_network(
            name, InputSpec(dims, (16,) * dims), 2, norm=norm, **options
        ).eval()
    return small_model(dims, name=name, norm=norm).network


def ready(original, precision):
    dims = geometry_of(original).dims
    spec = InputSpec(dims, (16,) * dims)
    return prepare(original, spec, choose_hardware("cpu", precision))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_an_accelerated_network_answers_as_its_original(name, dims):
    original = network(name, dims)
    before = {key: value.clone() for key, value in original.state_dict().items()}
    image = geometry_of(original).noise(sides=8, batch=2)
    keep = tuple(slice(3, side - 5) for side in image.shape[2:])
    with torch.inference_mode():
        expected = original(image)

    found = ready(original, "float32")

    scale = float(expected.abs().max())
    np.testing.assert_allclose(found.run(image), expected, atol=1e-5 * scale)
    np.testing.assert_allclose(
        found.run(image, keep),
        expected[(slice(None), slice(None), *keep)],
        atol=1e-5 * scale,
    )
    after = original.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", ["unet", "residual_unet", "basic_unet"])
def test_our_networks_are_folded_and_trimmed(name):
    found = ready(network(name, 3), "float32").network

    assert isinstance(found, TrimmedNetwork)
    norms = [m for m in found.modules() if "BatchNorm" in type(m).__name__]
    assert not norms
    assert cuts_for(found.traced, (64, 64, 64), ((24, 40),) * 3) is not None


@pytest.mark.parametrize("seed", range(6))
def test_cut_features_change_nothing(seed):
    rng = np.random.default_rng(seed)
    original = network(NAMES[seed % 3], 3)
    trimmed = TrimmedNetwork(merge_calls(fold(original))).to(
        memory_format=memory_layout(3)
    )
    stride = geometry_of(original).stride[0]
    sides = [int(rng.integers(1, 48 // stride + 1)) * stride for _ in range(3)]
    image = torch.randn(1, 1, *sides, generator=torch.Generator().manual_seed(seed))
    starts = [int(rng.integers(0, side)) for side in sides]
    keep = tuple(
        slice(start, int(rng.integers(start + 1, side + 1)))
        for start, side in zip(starts, sides, strict=True)
    )
    with torch.inference_mode():
        whole = original(image)

    found = trimmed(image.contiguous(memory_format=memory_layout(3)), keep)

    expected = whole[(slice(None), slice(None), *keep)]
    np.testing.assert_allclose(found.detach(), expected.detach(), atol=2e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_growth_by_sub_pixels_is_a_transposed_convolution(dims):
    torch.manual_seed(0)
    kind = {2: torch.nn.ConvTranspose2d, 3: torch.nn.ConvTranspose3d}[dims]
    layer = kind(6, 3, 3, stride=2, padding=1, output_padding=1)
    image = torch.randn(2, 6, *(4, 5, 3)[:dims])

    with torch.inference_mode():
        found = SubpixelUp(layer, ("leaky_relu", [0.1]))(image)
        expected = torch.nn.functional.leaky_relu(layer(image), 0.1)

    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_norm_that_sees_the_window_is_known(norm):
    assert geometry_of(network("unet", 3, norm)).sees_window == (norm == "instance")


@needs_bfloat16
def test_bfloat16_changes_few_labels():
    model = small_model(core=16, halo=8)
    volume = noise_volume((24, 32, 32))

    exact = segment(volume, model, SegmentOptions(precision="float32"))
    half = segment(volume, model, SegmentOptions(precision="bfloat16"))

    assert half.provenance["sources"][0]["precision"] == "bfloat16"
    # Noise keeps an untrained network near its threshold everywhere.
    assert (exact.labels.array != half.labels.array).mean() < 0.01


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_openvino_answers_as_torch(precision):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    model = small_model(core=16, halo=8)
    volume = noise_volume((20, 32, 32))
    options = SegmentOptions(precision=precision, backend="openvino")

    expected = segment(volume, model, SegmentOptions(precision="float32"))
    found = segment(volume, model, options)

    assert found.provenance["sources"][0]["backend"] == "openvino"
    changed = (found.labels.array != expected.labels.array).mean()
    assert changed < {"float32": 1e-4, "int8": 0.1}[precision]


@needs_bfloat16
def test_bfloat16_keeps_biases_and_the_answer_in_float32():
    original = network("residual_unet", 3)
    found = ready(original, "bfloat16").network
    layers = [m for m in found.modules() if isinstance(m, MergedConv | SubpixelUp)]

    assert {layer.bias.dtype for layer in layers} == {torch.float32}
    assert {layer.weight.dtype for layer in layers[:-1]} == {torch.bfloat16}
    assert found(geometry_of(original).noise().bfloat16()).dtype == torch.float32


def test_shaped_rounding_keeps_the_sum_of_every_kernel():
    torch.manual_seed(0)
    weight = torch.randn(8, 4, 3, 3, 3)

    found = shaped(weight)

    assert torch.equal(found, found.bfloat16().float())
    plain = (weight.bfloat16().float() - weight).sum((2, 3, 4)).abs()
    kept = (found - weight).sum((2, 3, 4)).abs()
    # What is left is the rounding of one tap.
    assert float(kept.max()) <= float(weight.abs().max()) * 2**-8
    assert float(kept.mean()) < float(plain.mean()) / 2
    # No tap strays: at most its own rounding and that of the one before.
    assert float((found - weight).abs().max()) <= float(weight.abs().max()) * 2**-7


@needs_bfloat16
@pytest.mark.parametrize("name", ["unet", "basic_unet"])
def test_bfloat16_is_closer_than_plain_rounding(name):
    model = small_model(name=name)
    image = (geometry_of(model.network).noise(sides=12) + 2).bfloat16().float()
    with torch.inference_mode():
        exact = model.network(image)
        plain = copy.deepcopy(model.network).bfloat16()(image.bfloat16())
        found = ready(model.network, "bfloat16").run(image)

    off = float((plain.float() - exact).abs().mean())
    assert float((found - exact).abs().mean()) < off / 1.25
