import hashlib
import logging

import pytest
import torch

from cellseg3d.core.errors import ConfigError, FormatError
from cellseg3d.models.checkpoint import ArchitectureError
from cellseg3d.models.recipes.imagenet import load_imagenet
from cellseg3d.models.unet import build_network

SLICE = {"spatial_dims": 2, "patch_shape": [64, 64]}
STACK = {**SLICE, "context": 2}


def vgg16_names():
    """The names and shapes of torchvision's vgg16.features, by rule."""
    names, index, width = {}, 0, 3
    blocks = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
    for block in blocks:
        for wide in block:
            names[f"features.{index}.weight"] = (wide, width, 3, 3)
            names[f"features.{index}.bias"] = (wide,)
            index, width = index + 2, wide
        index += 1
    return names


def googlenet_names():
    """The names of torchvision's googlenet without classifiers, by rule."""
    blocks = ["conv1", "conv2", "conv3"]
    for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        blocks += [
            f"inception{module}.{branch}"
            for branch in (
                "branch1",
                "branch2.0",
                "branch2.1",
                "branch3.0",
                "branch3.1",
                "branch4.1",
            )
        ]
    parts = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    parts += ["conv.weight", "bn.num_batches_tracked"]
    return {f"{block}.{part}" for block in blocks for part in parts}


def published(tmp_path, name, shapes, extra, *, zipped=True):
    generator = torch.Generator().manual_seed(0)
    values = {
        key: torch.rand(shape, generator=generator) for key, shape in shapes.items()
    }
    values |= {key: torch.rand(2, 2) for key in extra}
    path = tmp_path / name
    torch.save(values, path, _use_new_zipfile_serialization=zipped)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()[:8], values


def test_vgg_names_and_shapes_are_torchvision_s():
    network = build_network("vgg16_unet", {**SLICE, "image_channels": 3}, 2).network
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if name.startswith("features.")
    }

    assert shapes == vgg16_names()
    assert sum(p.numel() for p in network.features.parameters()) == 14_714_688


def test_googlenet_names_are_torchvision_s():
    network = build_network("googlenet_fcn", SLICE, 2).network
    names = {name for name in network.state_dict() if not name.startswith("grow.")}
    trained = [p.numel() for n, p in network.named_parameters() if "grow." not in n]

    assert names == googlenet_names()
    # torchvision counts 6,624,904 in all; 1,025,000 of them in its classifier, and two
    # of our three input channels are missing.
    assert sum(trained) == 6_624_904 - 1_025_000 - 2 * 64 * 7 * 7


@pytest.mark.parametrize(("spec", "channels"), [(SLICE, 1), (STACK, 5)])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_grey_image_gets_from_imagenet_filters_what_it_would_as_colour(
    tmp_path, spec, channels, zipped
):
    extra = ["classifier.0.weight", "classifier.6.bias"]
    path, sha256, values = published(
        tmp_path, "vgg16.pth", vgg16_names(), extra, zipped=zipped
    )
    network = build_network("vgg16_unet", spec, 2)
    grey = torch.rand(1, 1, 16, 16)
    first = values["features.0.weight"]
    expected = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), first)

    load_imagenet(network, path, sha256=sha256)

    own = network.network.state_dict()
    found = torch.nn.functional.conv2d(
        grey.expand(-1, channels, -1, -1), own["features.0.weight"]
    )
    torch.testing.assert_close(found, expected)
    assert torch.equal(own["features.28.weight"], values["features.28.weight"])
    assert torch.equal(own["features.0.bias"], values["features.0.bias"])


def test_colour_filters_stay_for_colour_images(tmp_path):
    path, sha256, values = published(tmp_path, "vgg16.pth", vgg16_names(), [])
    network = build_network("vgg16_unet", {**SLICE, "image_channels": 3}, 2)

    load_imagenet(network, path, sha256=sha256, colour=True)

    first = network.network.state_dict()["features.0.weight"]
    assert torch.equal(first, values["features.0.weight"])


def test_googlenet_loads_up_to_the_last_stage_it_has(tmp_path):
    whole = build_network("googlenet_fcn", {**SLICE, "image_channels": 3}, 2).network
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in whole.state_dict().items()
        if not name.startswith("grow.") and not name.endswith("num_batches_tracked")
    }
    path, sha256, values = published(
        tmp_path, "g.pth", shapes, ["aux1.fc1.weight", "fc.bias"]
    )
    network = build_network("googlenet_fcn", SLICE, 2, last_stage=4)

    load_imagenet(network, path, sha256=sha256)

    name = "inception4e.branch2.1.bn.running_var"
    assert torch.equal(network.network.state_dict()[name], values[name])


def test_other_files_are_refused_naming_what_differs(tmp_path):
    shapes = vgg16_names()
    path, sha256, _ = published(tmp_path, "vgg16.pth", shapes, [])
    network = build_network("vgg16_unet", SLICE, 2)

    with pytest.raises(FormatError, match=r"SHA-256 begins with .*397923af"):
        load_imagenet(network, path)
    with pytest.raises(FormatError, match="no such file"):
        load_imagenet(network, tmp_path / "none.pth")
    shapes["features.5.weight"] = (64, 64, 3, 3)
    path, sha256, _ = published(tmp_path, "vgg16.pth", shapes, [])
    with pytest.raises(ArchitectureError, match=r"'features.5.weight' has shape \(64"):
        load_imagenet(network, path, sha256=sha256)
    with pytest.raises(ConfigError, match="vgg16_unet and googlenet_fcn"):
        load_imagenet(build_network("residual_unet", SLICE, 2), path)


def test_without_a_file_it_says_that_it_trains_from_scratch(caplog):
    network = build_network("vgg16_unet", SLICE, 2)
    before = network.network.features[0].weight.clone()

    with caplog.at_level(logging.WARNING):
        said = load_imagenet(network, None)

    assert "trains from scratch" in said
    assert "vgg16-397923af.pth" in said
    assert said in caplog.text
    assert torch.equal(network.network.features[0].weight, before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vgg16_unet", {}),
        ("googlenet_fcn", {"last_stage": 4}),
        ("convlstm_unet", {"channels": [16, 16, 32]}),
    ],
)
def test_any_size_comes_back_scripted_too(name, options):
    torch.manual_seed(0)
    network = build_network(name, STACK, 3, **options).eval()
    image = torch.rand(2, 5, 35, 18)

    with torch.no_grad():
        logits = network(image)
        scripted = torch.jit.script(network)(image)

    assert logits.shape == (2, 3, 35, 18)
    assert logits.std() > 0
    torch.testing.assert_close(scripted, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vgg16_unet", "googlenet_fcn", "convlstm_unet"])
def test_networks_of_slices_refuse_volumes(name):
    with pytest.raises(ConfigError, match="spatial_dims is 3"):
        build_network(name, {"spatial_dims": 3, "patch_shape": [32, 32, 32]}, 2)


def test_convlstm_reads_every_slice_and_tells_their_order():
    torch.manual_seed(0)
    network = build_network("convlstm_unet", STACK, 2, channels=[16, 16]).eval()
    stack = torch.rand(1, 5, 16, 16, requires_grad=True)

    logits = network(stack)
    logits[0, 1].sum().backward()
    swapped = network(stack.detach()[:, [1, 0, 2, 3, 4]])

    assert (stack.grad.abs().sum((0, 2, 3)) > 0).all()
    assert not torch.allclose(swapped, logits, atol=1e-6)


def test_convlstm_learns_what_only_a_neighbouring_slice_shows():
    torch.manual_seed(0)
    spec = {**SLICE, "context": 1}
    network = build_network("convlstm_unet", spec, 2, channels=[16, 16])
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(40):
        stack = torch.randn(4, 3, 8, 8)
        bright = torch.rand(4, 1, 1) > 0.5
        stack[:, 0] += 3 * bright
        loss = torch.nn.functional.cross_entropy(
            network(stack), bright.long().expand(4, 8, 8)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    assert loss.item() < 0.2
