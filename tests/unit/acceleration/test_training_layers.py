"""Quick layers compute what torch's own compute, gradients included."""

import contextlib

import pytest
import torch
from processor import needs_bfloat16
from torch import nn

from cellseg3d.acceleration.training_layers import QuickLayers, relaid
from cellseg3d.training.precision import AutocastInferer


@pytest.mark.parametrize("slope", [0.25, 0.0, -0.3, 1.5])
def test_a_quick_prelu_has_the_gradients_of_torchs(slope):
    torch.manual_seed(0)
    layer = nn.PReLU(init=slope)
    features = torch.randn(2, 3, 5, 7, dtype=torch.float64).requires_grad_()
    layer = layer.double()
    arriving = torch.randn_like(features)
    answers = []
    for mode in (None, QuickLayers()):
        if mode is None:
            given = layer(features)
        else:
            with mode:
                given = layer(features)
            assert "OneSlope" in given.grad_fn.name()
        gradients = torch.autograd.grad(given, [features, layer.weight], arriving)
        answers.append([given, *gradients])

    for found, expected in zip(answers[1], answers[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_a_slope_for_each_channel_is_left_to_torch():
    layer, features = nn.PReLU(3), torch.randn(2, 3, 4, requires_grad=True)

    with QuickLayers():
        given = layer(features)

    assert "OneSlope" not in given.grad_fn.name()
    torch.testing.assert_close(given, layer(features))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_quick_norm_of_few_channels_is_torchs_and_keeps_the_layout(layout):
    torch.manual_seed(0)
    features = torch.randn(2, 4, 6, 5, dtype=torch.float64) * 3 + 1
    arriving = torch.randn_like(features).contiguous(memory_format=layout)
    found = {}
    for quick in (False, True):
        norm = nn.BatchNorm2d(4).double()
        given = features.contiguous(memory_format=layout).requires_grad_()
        with QuickLayers() if quick else contextlib.nullcontext():
            answer = norm(given)
        assert answer.is_contiguous(memory_format=layout)
        gradients = torch.autograd.grad(answer, [given, norm.weight], arriving)
        assert gradients[0].is_contiguous(memory_format=layout)
        found[quick] = [answer, *gradients, norm.running_mean, norm.running_var]

    for quick, expected in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(quick, expected, rtol=1e-12, atol=1e-12)


def test_features_in_another_layout_send_their_gradient_back_in_their_own():
    given = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    given = given.bfloat16().requires_grad_()
    gradients = []
    given.register_hook(gradients.append)

    changed = relaid(given, torch.contiguous_format, torch.float32)
    (changed * torch.arange(5.0)).sum().backward()

    assert changed.dtype == torch.float32
    assert changed.is_contiguous()
    torch.testing.assert_close(changed, given.float())
    assert gradients[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        given.grad, torch.arange(5.0).bfloat16().expand(2, 3, 4, 5)
    )
    assert relaid(changed, torch.contiguous_format) is changed


@needs_bfloat16
def test_training_in_bfloat16_takes_the_quick_way_and_keeps_the_gradient():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.PReLU(), nn.Conv2d(4, 2, 3))
    images = torch.randn(2, 1, 12, 12)
    gradients = []
    for precision in ("float32", "bfloat16"):
        network.zero_grad()
        AutocastInferer(precision)(images, network).square().mean().backward()
        gradients.append(network[1].weight.grad.clone())

    assert gradients[0].abs() > 0.01
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.1, atol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_images_of_one_channel_have_features_channels_last_and_unchanged(dims):
    torch.manual_seed(0)
    conv, last = (
        (nn.Conv2d, torch.channels_last)
        if dims == 2
        else (nn.Conv3d, torch.channels_last_3d)
    )
    network = nn.Sequential(conv(1, 4, 3), conv(4, 2, 3)).to(memory_format=last)
    features = []
    network[0].register_forward_hook(lambda *found: features.append(found[2]))
    images = torch.randn(2, 1, *[8] * dims)

    logits = AutocastInferer("float32")(images, network)

    assert features[0].is_contiguous(memory_format=last)
    assert logits.is_contiguous()
    torch.testing.assert_close(logits, network(images), rtol=1e-4, atol=1e-5)
