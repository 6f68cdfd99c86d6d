import pytest
import torch
from network_facts import network_facts
from torch import nn

from cellseg3d.core.errors import ConfigError
from cellseg3d.models.geometry import geometry_of
from cellseg3d.models.unet import build_network

SPEC = {"spatial_dims": 2, "patch_shape": [64, 64]}


def test_one_convolution_by_hand():
    facts = network_facts(
        nn.Conv2d(1, 2, (3, 7), padding=(1, 3)), 2, in_channels=1, total_stride=(1, 1)
    )

    assert facts.halo == (1, 3)
    assert facts.receptive_field == (3, 7)
    assert facts.parameters == 2 * 21 + 2
    assert not facts.normalisation_sees_window


def test_strides_and_pools_by_hand():
    down = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2))
    up = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ConvTranspose2d(2, 2, 2, 2))
    facts = network_facts(
        nn.Sequential(down, up), 2, in_channels=1, total_stride=(2, 2)
    )

    # One cell of the lattice and, by the inner kernel, one more on each side; then
    # one voxel by the outer kernel.
    assert facts.halo == (3, 3)
    assert facts.receptive_field == (8, 8)


@pytest.mark.parametrize("name", ["residual_unet", "unet", "attention_unet"])
def test_what_lies_beyond_the_halo_changes_nothing(name):
    torch.manual_seed(0)
    network = build_network(name, SPEC, 2, channels=[16, 16, 16]).eval()
    facts = network_facts(network)
    stride, halo = facts.total_stride[0], facts.halo[0]
    first = -(-(halo + 2) // stride) * stride
    image = torch.rand(1, 1, first + stride + halo + 2, stride)

    def block(row):
        changed = image.clone()
        changed[:, :, row] += 100
        with torch.no_grad():
            return network(changed)[:, :, first : first + stride]

    with torch.no_grad():
        reference = network(image)[:, :, first : first + stride]
    beyond = [block(first - halo - 1), block(first + stride + halo)]
    within = [block(first - halo), block(first + stride + halo - 1)]

    assert all(torch.equal(answer, reference) for answer in beyond)
    assert any(not torch.equal(answer, reference) for answer in within)


def test_coarse_axis_has_its_own_facts():
    spec = {"spatial_dims": 3, "patch_shape": [16, 64, 64]}
    network = build_network("residual_unet", spec, 2, [0.05, 0.0046, 0.0046])

    facts = network_facts(network)

    assert facts.total_stride == (4, 16, 16)
    assert facts.halo[0] < facts.halo[1] == facts.halo[2]


class GatedByTheMean(nn.Module):
    def forward(self, image):
        return image * image.mean((2, 3), keepdim=True)


def test_norms_that_see_the_window_are_found():
    batch = network_facts(build_network("unet", SPEC, 2, channels=[16, 16]))
    instance = network_facts(
        build_network("unet", SPEC, 2, channels=[16, 16], norm="instance")
    )
    pooled = network_facts(GatedByTheMean(), 2, in_channels=1, total_stride=(1, 1))

    assert not batch.normalisation_sees_window
    assert instance.normalisation_sees_window
    assert instance.halo == batch.halo
    assert pooled.normalisation_sees_window
    assert pooled.halo is None


def test_network_is_left_as_it_was():
    network = build_network("unet", SPEC, 2, channels=[16, 16])
    before = {name: value.clone() for name, value in network.state_dict().items()}

    network_facts(network)

    assert network.training
    assert all(torch.equal(before[name], v) for name, v in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_shapes_of_any_network_are_found_where_none_are_given():
    down = nn.Sequential(
        nn.Conv3d(2, 2, 3, padding=1), nn.BatchNorm3d(2), nn.MaxPool3d((1, 2, 2))
    )
    up = nn.ConvTranspose3d(2, 2, (1, 2, 2), (1, 2, 2))
    network = nn.Sequential(down, up)

    facts = network_facts(network)

    assert facts == network_facts(network, 3, in_channels=2, total_stride=(1, 2, 2))
    assert facts.total_stride == (1, 2, 2)
    assert facts.halo == (1, 1, 1)
    assert int(down[1].num_batches_tracked) == 0


def test_shapes_of_a_network_without_convolution_must_be_given():
    with pytest.raises(ConfigError, match="GatedByTheMean has no convolution"):
        network_facts(GatedByTheMean())


@pytest.mark.parametrize(
    ("norm", "sees"),
    [
        (nn.BatchNorm2d(4), False),
        (nn.BatchNorm2d(4, track_running_stats=False), True),
        (nn.InstanceNorm2d(4), True),
        (nn.InstanceNorm2d(4, track_running_stats=True), False),
        (nn.GroupNorm(2, 4), True),
    ],
)
def test_a_norm_sees_the_window_exactly_where_prediction_says_so(norm, sees):
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), norm).eval()
    image = torch.rand(1, 1, 8, 24)
    changed = image.clone()
    changed[..., -1] += 10

    with torch.no_grad():
        apart = (network(image) - network(changed))[..., :8].abs().max()

    assert (apart > 0) == sees
    assert network_facts(network).normalisation_sees_window == sees
    assert geometry_of(network).sees_window == sees
