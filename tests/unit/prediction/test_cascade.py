"""The second stage sees, learns and says something only where the first one fires."""

import numpy as np
import pytest
import torch

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.models.recipes.cascade import Cascade, CascadeLoss, log_odds
from cellseg3d.models.unet import build_network
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from tests.small_models import SmallModel

SPEC = InputSpec(2, (16, 16))
NAMES = ("background", "cytoplasm", "nucleus")


def cascade(seed=0, context=0):
    """Two small U-Nets with settled statistics whose answers are of both signs."""
    spec = InputSpec(2, (16, 16), context=context)
    torch.manual_seed(seed)
    network = build_network("cascade", spec, 3, stage="unet", channels=(8, 16))
    network.train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(8, spec.in_channels, 16, 16))
        stages = network.network
        for stage in (stages.stage_one, stages.stage_two):
            odds = stage(torch.randn(8, spec.in_channels, 16, 16))
            list(stage.parameters())[-1].sub_(odds.median())
    return network.eval()


def seen_by_stage_two(network, image):
    seen = []
    handle = network.network.stage_two.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].clone())
    )
    logits = network(image)
    handle.remove()
    return seen[0], logits


@pytest.mark.parametrize("context", [0, 1])
def test_stage_two_sees_the_image_only_where_stage_one_fires(context):
    network = cascade(context=context)
    image = torch.randn(2, 2 * context + 1, 24, 16)

    with torch.no_grad():
        fired = network.network.stage_one(image) > 0
        seen, _ = seen_by_stage_two(network, image)

    assert 0.1 < fired.float().mean() < 0.9
    where = fired.expand_as(image)
    assert torch.equal(seen[where], image[where])
    assert (seen[~where] == -1).all()


def test_labels_are_stage_one_times_one_plus_stage_two():
    network = cascade()
    image = torch.randn(2, 1, 16, 16)

    with torch.no_grad():
        seen, logits = seen_by_stage_two(network, image)
        cell = network.network.stage_one(image)
        nucleus = network.network.stage_two(seen)

    expected = (cell > 0) * (1 + (nucleus > 0).int())
    assert torch.equal(logits.argmax(1, keepdim=True), expected)
    assert set(expected.unique().tolist()) == {0, 1, 2}
    probs = logits.softmax(1)
    odds = torch.log(probs[:, 1:].amax(1, keepdim=True) / probs[:, :1])
    torch.testing.assert_close(odds, cell, rtol=1e-3, atol=1e-3)
    one, two = log_odds(logits)
    torch.testing.assert_close(one, cell)
    torch.testing.assert_close(two, nucleus * (cell > 0), rtol=1e-4, atol=1e-5)


def test_blocks_of_a_cascade_give_the_labels_of_the_whole_volume():
    network = cascade()
    values = np.random.default_rng(0).normal(100, 20, (5, 45, 38)).astype(np.float32)
    volume = Volume(values, Spacing(0.1, 0.1, 0.1))
    # A halo that holds what both stages see, one after the other.
    small = SmallModel(network, SPEC, NAMES, {"core": (8, 16), "halo": (24, 24)})
    whole = SmallModel(network, SPEC, NAMES, {"core": (64, 64), "halo": (0, 0)})

    exact = SegmentOptions(precision="float32")
    blockwise = segment(volume, small, exact).labels.read()

    assert set(np.unique(blockwise)) == {0, 1, 2}
    np.testing.assert_array_equal(
        blockwise, segment(volume, whole, exact).labels.read()
    )
    scale, shift = whole.intensity.measure(volume)
    image = whole.intensity.apply(values, scale, shift)
    with torch.no_grad():
        logits = network(torch.from_numpy(image)[:, None])
    np.testing.assert_array_equal(blockwise, logits.argmax(1).numpy())


def test_the_loss_of_stage_two_is_blind_outside_of_what_fired():
    cell = torch.randn(2, 1, 8, 8)
    nucleus = torch.randn(2, 1, 8, 8, requires_grad=True)
    fired = (cell > 0).float()
    label = torch.randint(0, 3, (2, 1, 8, 8))
    label[0, :, :2] = 255
    logits = torch.cat(
        [
            torch.zeros_like(cell),
            cell - torch.relu(nucleus * fired),
            cell - torch.relu(-nucleus * fired),
        ],
        1,
    )

    CascadeLoss()(logits, label).backward()

    counted = (cell > 0) & (label != 255)
    assert (nucleus.grad[~counted] == 0).all()
    assert (nucleus.grad[counted] != 0).all()
    nuclear = counted & (label == 2)
    assert (nucleus.grad[nuclear] < 0).all()
    assert (nucleus.grad[counted & (label != 2)] > 0).all()


def test_a_sample_without_nuclei_annotated_teaches_stage_two_nothing():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    label = torch.randint(0, 3, (2, 1, 8, 8))
    seen = [[True, True, False], [True, True, True]]

    CascadeLoss(nucleus_share=5.0)(logits, label, seen).backward()
    both = logits.grad.clone()
    logits.grad = None
    CascadeLoss(nucleus_share=0.0)(logits, label, seen).backward()

    assert torch.equal(both[0], logits.grad[0])
    assert not torch.equal(both[1], logits.grad[1])


def test_both_stages_learn_a_cell_in_which_a_nucleus_lies():
    torch.manual_seed(0)
    network = build_network("cascade", SPEC, 3, stage="unet", channels=(8, 16))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    rows = torch.arange(16.0)
    radius = ((rows[:, None] - 7.5) ** 2 + (rows - 7.5) ** 2).sqrt()
    label = ((radius < 6).long() + (radius < 3).long()).expand(4, 1, 16, 16)
    loss = CascadeLoss()
    for _ in range(60):
        image = label - 1 + 0.2 * torch.randn(4, 1, 16, 16)
        value = loss(network(image), label)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    with torch.no_grad():
        found = network.eval()(label - 1 + 0.2 * torch.randn(4, 1, 16, 16)).argmax(1)

    assert (found == label[:, 0]).float().mean() > 0.95


def test_a_cascade_can_be_scripted():
    network = cascade()
    image = torch.randn(1, 1, 19, 22)

    with torch.no_grad():
        scripted = torch.jit.script(network)(image)

        torch.testing.assert_close(scripted, network(image))


def test_other_classes_are_refused_with_a_way_out():
    with pytest.raises(ConfigError, match=r"4 classes.*label_map"):
        build_network("cascade", SPEC, 4)
    with pytest.raises(ConfigError, match=r"vgg61_unet.*vgg16_unet"):
        build_network("cascade", SPEC, 3, stage="vgg61_unet")
    with pytest.raises(LabelError, match=r"holds 3.*label_map"):
        CascadeLoss()(torch.zeros(1, 3, 4, 4), torch.full((1, 1, 4, 4), 3))


def test_nothing_passes_from_stage_two_into_stage_one():
    one, two = torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Conv2d(1, 1, 3, padding=1)
    logits = Cascade(one, two)(torch.randn(1, 1, 8, 8))

    log_odds(logits)[1].square().sum().backward()

    assert one.weight.grad.abs().max() < 1e-5
    assert two.weight.grad.abs().max() > 1e-3
