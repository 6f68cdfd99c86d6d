import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.models.ladder import build_ladder
from cellseg3d.models.unet import build_network

VNC_UM = (0.05, 0.0046, 0.0046)


def spec_3d(*patch):
    return InputSpec(3, patch or (32, 32, 32))


def spec_2d(context=0):
    return {"spatial_dims": 2, "patch_shape": [64, 64], "context": context}


def test_coarse_axis_waits_until_spacings_agree():
    ladder = build_ladder(spec_3d(16, 160, 160), VNC_UM)

    assert ladder.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert ladder.kernels == ((1, 3, 3), (1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert ladder.total_stride == (2, 16, 16)


def test_short_axis_of_an_isotropic_patch_stops_being_halved():
    ladder = build_ladder(spec_3d(16, 160, 160), (0.01, 0.01, 0.01))

    assert ladder.strides[1:] == ((2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert set(ladder.kernels) == {(3, 3, 3)}


def test_slices_across_y_use_the_spacing_of_z_and_x():
    across_y = InputSpec(2, (64, 64), context=1, axis="y")

    assert build_ladder(across_y, VNC_UM).kernels[0] == (1, 3)
    assert build_ladder(InputSpec(2, (64, 64)), VNC_UM).kernels[0] == (3, 3)


def test_small_patch_gets_fewer_levels_but_asked_levels_are_kept():
    assert len(build_ladder(spec_3d(16, 16, 16)).strides) == 3
    assert len(build_ladder(spec_3d(16, 16, 16), levels=5).strides) == 5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("residual_unet", {}),
        ("unet", {}),
        ("basic_unet", {"features": [16, 16, 16, 32, 32, 16]}),
        ("dynunet", {"filters": [16, 32, 32]}),
        ("segresnet", {"init_filters": 16}),
        ("attention_unet", {"channels": [16, 32, 32]}),
    ],
)
@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (spec_2d(), (37, 41)),
        (spec_2d(context=2), (1, 17)),
        (spec_3d(), (7, 1, 19)),
    ],
)
def test_any_size_comes_back_scripted_too(name, options, spec, size):
    network = build_network(name, spec, 3, VNC_UM, **options).eval()
    image = torch.rand(1, network.in_channels, *size)

    with torch.no_grad():
        logits = network(image)
        scripted = torch.jit.script(network)(image)

    assert logits.shape == (1, 3, *size)
    assert logits.std() > 0
    torch.testing.assert_close(scripted, logits, rtol=1e-4, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_padding_leaves_what_a_multiple_of_the_stride_gets(size):
    network = build_network("residual_unet", spec_2d(), 2, channels=[16, 16, 16]).eval()
    image = torch.rand(1, 1, *size)
    whole = [-(-side // 4) * 4 for side in size]
    far = [0, whole[1] - size[1], 0, whole[0] - size[0]]
    padded = torch.nn.functional.pad(image, far, mode="replicate")

    with torch.no_grad():
        logits, inner = network(image), network.network(padded)

    torch.testing.assert_close(logits, inner[..., : size[0], : size[1]])


def test_default_normalisation_is_batch_and_instance_on_request():
    for name in ("residual_unet", "unet", "attention_unet", "dynunet", "segresnet"):
        kinds = {
            norm: {
                type(module).__name__
                for module in build_network(name, spec_2d(), 2, norm=norm).modules()
                if "Norm" in type(module).__name__
            }
            for norm in ("batch", "instance")
        }

        assert kinds == {"batch": {"BatchNorm2d"}, "instance": {"InstanceNorm2d"}}


def test_the_u_net_of_2015_has_31_million_parameters():
    network = build_network("unet31m", spec_2d(), 2)

    assert 31.0e6 < sum(p.numel() for p in network.parameters()) < 31.2e6


def test_house_net_has_widths_in_multiples_of_16():
    network = build_network("residual_unet", spec_3d(), 2)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv3d)]

    inner = convolutions[1:-1]
    assert all(m.in_channels % 16 == m.out_channels % 16 == 0 for m in inner)


def test_deep_supervision_adds_outputs_while_training_only():
    network = build_network("residual_unet", spec_2d(), 3, deep_supervision=2)
    image = torch.rand(2, 1, 30, 34)

    assert network(image).shape == (2, 3, 3, 30, 34)
    assert network.eval()(image).shape == (2, 3, 30, 34)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("residul_unet", spec_2d(), 2), "did you mean 'residual_unet'"),
        (("unet", spec_2d(), 1), "num_classes is 1"),
        (("monai.NoSuchNet", spec_2d(), 2), "'NoSuchNet' is unknown"),
    ],
)
def test_wrong_names_and_numbers_are_named(call, message):
    with pytest.raises(ConfigError, match=message):
        build_network(*call)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chanels": [16, 32]}, "did you mean 'channels'"),
        ({"norm": "layer"}, "expected 'batch' or 'instance'"),
        ({"channels": [16]}, "at least 2"),
    ],
)
def test_wrong_options_are_named(options, message):
    for name in ("residual_unet", "unet"):
        with pytest.raises(ConfigError, match=message):
            build_network(name, spec_2d(), 2, **options)


def test_other_monai_classes_build_by_name():
    network = build_network(
        "monai.SegResNetDS", spec_2d(), 2, total_stride=8, init_filters=8, norm="batch"
    ).eval()

    assert network(torch.rand(1, 1, 21, 13)).shape == (1, 2, 21, 13)
