import io

import pytest
import torch
from monai.networks.utils import convert_to_onnx, convert_to_torchscript

from cellseg3d.models.unet import build_network

SLICE = {"spatial_dims": 2, "patch_shape": [32, 32], "context": 1}
PATCH = {"spatial_dims": 3, "patch_shape": [16, 16, 16]}
NETS = [
    ("residual_unet", SLICE, {"deep_supervision": 1, "channels": [16, 32, 32]}),
    ("residual_unet", PATCH, {"channels": [16, 32]}),
    ("unet", SLICE, {"channels": [16, 32, 32]}),
    ("unet", PATCH, {"channels": [16, 32]}),
    ("convlstm_unet", SLICE, {"channels": [16, 16]}),
    ("googlenet_fcn", SLICE, {"last_stage": 3}),
]


# torch 2.13 deprecates what MONAI's export is made of.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def build(name, spec, options):
    """Return a network whose norms have seen data, and an image of an odd size."""
    torch.manual_seed(0)
    network = build_network(name, spec, 3, **options)
    shape = [2, network.in_channels, *spec["patch_shape"]]
    for _ in range(3):
        network(torch.randn(shape))
    sizes = [19, 13, 7][: spec["spatial_dims"]]
    return network.eval(), torch.randn(1, network.in_channels, *sizes)


@pytest.mark.parametrize(("name", "spec", "options"), NETS)
def test_torchscript_as_monai_exports_it_equals_eager(name, spec, options):
    network, image = build(name, spec, options)
    larger = torch.randn(2, *[side + 4 for side in image.shape[1:]])[
        :, : image.shape[1]
    ]
    file = io.BytesIO()

    convert_to_torchscript(network, file, verify=False)
    file.seek(0)
    exported = torch.jit.load(file)

    with torch.no_grad():
        for sample in (image, larger):
            torch.testing.assert_close(
                exported(sample), network(sample), rtol=1e-4, atol=1e-5
            )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("net", "dynamo"),
    [
        (0, True),
        (1, False),
        pytest.param(1, True, marks=pytest.mark.slow),
        pytest.param(2, True, marks=pytest.mark.slow),
        pytest.param(2, False, marks=pytest.mark.slow),
    ],
)
def test_onnx_as_monai_exports_it_equals_eager_at_any_size(net, dynamo, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, image = build(*NETS[net])
    sides = {dim: f"side{dim}" for dim in range(2, image.ndim)}

    convert_to_onnx(
        network,
        [image],
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": sides, "logits": sides},
        filename=str(tmp_path / "net.onnx"),
        dynamo=dynamo,
    )
    session = runtime.InferenceSession(tmp_path / "net.onnx")

    for sample in (image, torch.randn(1, *[side + 9 for side in image.shape[1:]])):
        cut = sample[:, : image.shape[1]].contiguous()
        (found,) = session.run(None, {"image": cut.numpy()})
        with torch.no_grad():
            expected = network(cut)
        torch.testing.assert_close(
            torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4
        )
