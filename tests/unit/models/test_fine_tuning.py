import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from cellseg3d.models.fine_tuning import adapt_weights

BEFORE = ("background", "cell", "nucleus")
NOW = ("background", "nucleus", "golgi", "cell")


def unet(channels, classes):
    return UNet(2, channels, classes, (4, 8), (2,), num_res_units=2)


def test_equal_networks_take_all_weights():
    old, new = unet(1, 3), unet(1, 3)

    found = adapt_weights(old.state_dict(), new, BEFORE, BEFORE)

    assert found.changed == ()
    assert all(torch.equal(found.tensors[n], t) for n, t in old.state_dict().items())


def test_rows_of_the_last_layers_follow_the_names_of_the_classes():
    old, new = unet(1, 3), unet(1, 4)

    found = adapt_weights(old.state_dict(), new, BEFORE, NOW)

    new.load_state_dict(found.tensors)
    transposed = "model.2.0.conv.weight"
    before, after = old.state_dict()[transposed], found.tensors[transposed]
    assert transposed in found.changed
    assert torch.equal(after[:, [0, 3, 1]], before[:, [0, 1, 2]])
    last = "model.2.1.conv.unit0.conv.weight"
    before, after = old.state_dict()[last], found.tensors[last]
    assert torch.equal(after[0, 0], before[0, 0])
    assert torch.equal(after[3, 1], before[1, 2])
    assert found.kept_classes == ("background", "nucleus", "cell")


def test_more_image_channels_answer_a_repeated_image_alike():
    old, new = nn.Conv3d(1, 4, 3), nn.Conv3d(5, 4, 3)
    image = torch.rand(1, 1, 6, 6, 6)

    found = adapt_weights(old.state_dict(), new, BEFORE, BEFORE)
    new.load_state_dict(found.tensors)

    assert torch.allclose(new(image.expand(1, 5, 6, 6, 6)), old(image), atol=1e-5)


@pytest.mark.parametrize("before", [1, 2])
def test_stacks_of_another_number_of_channels_keep_the_order_of_their_slices(before):
    """A stack holds the three slices of the first channel, then those of the second."""
    old, new = nn.Conv2d(3 * before, 4, 3), nn.Conv2d(3 * (3 - before), 4, 3)
    slices = torch.rand(1, 3, 6, 6)

    found = adapt_weights(old.state_dict(), new, BEFORE, BEFORE)
    new.load_state_dict(found.tensors)

    one, two = slices, slices.repeat(1, 2, 1, 1)
    stacks = (one, two) if before == 1 else (two, one)
    assert torch.allclose(new(stacks[1]), old(stacks[0]), atol=1e-5)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_another_width_is_refused(kind):
    with pytest.raises(ValueError, match="'weight' has shape"):
        adapt_weights(kind(4, 8, 3).state_dict(), kind(4, 6, 3), BEFORE, NOW)


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match="'bias' is in one of the two"):
        adapt_weights(
            nn.Conv2d(1, 2, 1).state_dict(), nn.Conv2d(1, 2, 1, bias=False), NOW, NOW
        )
