"""Two classes answered as one number: the second logit less the first."""

import pytest
import torch
from monai.networks.nets import BasicUNet, UNet
from processor import needs_bfloat16
from torch import fx, nn

from cellseg3d.acceleration.class_difference import to_class_difference
from cellseg3d.acceleration.folding import fold
from cellseg3d.acceleration.prepare import prepare
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.models.hardware import choose_hardware
from cellseg3d.prediction.fusion import labels_of, probs_of


def unet(dims: int, classes: int = 2, residual: int = 2) -> nn.Module:
    torch.manual_seed(dims)
    network = UNet(
        dims, 1, classes, (4, 8, 16), (2, 2), num_res_units=residual, norm="batch"
    )
    return network.eval()


def basic(dims: int) -> nn.Module:
    torch.manual_seed(dims)
    return BasicUNet(dims, 1, 2, (4, 4, 8, 8, 16, 4), norm="batch").eval()


class Head(nn.Module):
    """A convolution, and perhaps what it reads added to what it answers."""

    def __init__(self, conv: nn.Module, times: int) -> None:
        super().__init__()
        self.conv = conv
        self.times = times

    def forward(self, image):
        answer = self.conv(image)
        for _ in range(self.times):
            answer = answer + image
        return answer


NETS = {
    "residual 2D": unet(2),
    "residual 3D": unet(3),
    "transposed 2D": unet(2, residual=0),
    "transposed 3D": unet(3, residual=0),
    "basic 3D": basic(3),
}


@pytest.mark.parametrize("name", NETS)
def test_a_graph_answers_the_difference_of_two_logits(name):
    network = NETS[name]
    traced = fold(network)
    dims = 3 if "3D" in name else 2
    image = torch.rand(2, 1, *(16, 32, 16)[:dims])

    with torch.inference_mode():
        logits = network(image)
        assert to_class_difference(traced)
        found = traced(image)

    assert found.shape[1] == 1
    torch.testing.assert_close(found[:, 0], logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_what_a_layer_reads_may_be_added_to_its_answer(times, kernel):
    head = Head(nn.Conv3d(2, 2, kernel, padding=kernel // 2), times)
    traced = fx.symbolic_trace(head)
    image = torch.rand(1, 2, 5, 6, 7)

    with torch.inference_mode():
        logits = head(image)
        assert to_class_difference(traced)
        torch.testing.assert_close(traced(image)[:, 0], logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize(
    "head",
    [
        Head(nn.Conv2d(2, 3, 3, padding=1), 0),
        Head(nn.Conv2d(2, 2, 3, padding=1, groups=2), 0),
        Head(nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()), 0),
        Head(nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1)), 1),
        Head(nn.Conv2d(2, 2, 3, padding=2, dilation=1, stride=1), 0),
    ],
    ids=["three classes", "groups", "an activation", "added before", "wider"],
)
def test_a_graph_that_cannot_be_rewritten_is_left_as_it_was(head):
    traced = fx.symbolic_trace(head)
    image = torch.rand(1, 2, 6, 6)

    with torch.inference_mode():
        logits = head(image)
        done = to_class_difference(traced)
        found = traced(image)

    expected = logits[:, 1:] - logits[:, :1] if done else logits
    assert done is (head.conv.__class__ is nn.Conv2d and head.conv.padding == (2, 2))
    torch.testing.assert_close(found, expected)


class Shared(nn.Module):
    """One convolution that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, image):
        return self.conv(torch.relu(self.conv(image)))


class Shifted(nn.Module):
    """A convolution, and a number added to its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, image):
        return self.conv(image) + 1.5


@pytest.mark.parametrize("network", [Shared(), Shifted()], ids=["shared", "shifted"])
def test_shared_layers_and_added_numbers_are_left_alone(network):
    traced = fx.symbolic_trace(network)
    image = torch.rand(1, 2, 6, 6)

    with torch.inference_mode():
        logits = network(image)
        assert not to_class_difference(traced)
        assert torch.equal(traced(image), logits)


def test_one_number_gives_the_labels_and_the_probabilities_of_two():
    logits = 8 * torch.randn(2, 7, 8, 9)
    alone = logits[1:] - logits[:1]

    assert torch.equal(labels_of(alone), labels_of(logits))
    torch.testing.assert_close(probs_of(alone), probs_of(logits))
    assert labels_of(torch.zeros(1, 1, 1, 1)).item() == 0, "ties go to the lower class"


@needs_bfloat16
@pytest.mark.parametrize("name", ["residual 2D", "residual 3D", "basic 3D"])
def test_in_bfloat16_one_answer_is_as_exact_as_two_in_float32(name):
    network = NETS[name]
    image = torch.rand(1, 1, *(48,) * (3 if "3D" in name else 2))
    with torch.inference_mode():
        exact = network(image)
    dims = image.ndim - 2
    spec, hardware = InputSpec(dims, (48,) * dims), choose_hardware("cpu", "bfloat16")
    both = [prepare(network, spec, hardware, difference=d) for d in (False, True)]

    two, one = (each.run(image).float() for each in both)

    expected = exact[:, 1] - exact[:, 0]
    errors = [
        float((found - expected).square().mean().sqrt())
        for found in (two[:, 1] - two[:, 0], one[:, 0])
    ]
    assert 0 < errors[1] < 1.5 * errors[0] + 2**-9 * float(expected.abs().max())
