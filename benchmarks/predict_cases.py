"""The ways to predict a volume that `predict.py` compares.

Each function sets up one way and returns a task, which predicts the labels.
"""

# Each case runs in a process of its own and imports only what it compares.
# ruff: noqa: ANN001, ANN003, ANN201, ANN202, PLC0415

import json
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

SIDE = 96


def prepared(image):
    """Return the image in the shape (1, 1, Z, Y, X) that stock inferers take."""
    return torch.from_numpy(np.array(image))[None, None]


@torch.no_grad()
def monai(network, image, facts, folder, *, overlap, batch):
    """Set up stock MONAI: sliding windows without Gaussian weights, then argmax."""
    from monai.inferers import SlidingWindowInferer

    inferer = SlidingWindowInferer((SIDE,) * 3, batch, overlap)
    volume = prepared(image)

    @torch.no_grad()
    def task():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logits = inferer(volume, network)
        return logits.argmax(1)[0].to(torch.uint8).numpy(), "float32"

    return task


def monai_tuned(network, image, facts, folder):
    """Predict with stock MONAI as far as its options go.

    The network is folded, windows are larger, and the number format is bfloat16 where
    the processor multiplies it in hardware, else float32.
    """
    from monai.inferers import SlidingWindowInferer

    from cellseg3d.acceleration.folding import fold
    from cellseg3d.models.hardware import has_fast_bfloat16

    layout = torch.channels_last_3d
    is_fast = has_fast_bfloat16(torch.device("cpu"))
    dtype = torch.bfloat16 if is_fast else torch.float32
    folded = fold(network).to(dtype).to(memory_format=layout)
    side = min(160, *image.shape)
    inferer = SlidingWindowInferer((side // 16 * 16,) * 3, 1, 0.25)
    volume = prepared(image)

    @torch.no_grad()
    def task():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen = volume.to(dtype)
            logits = inferer(seen, lambda x: folded(x.contiguous(memory_format=layout)))
        labels = (logits[0, 1] > logits[0, 0]).to(torch.uint8).numpy()
        return labels, str(dtype).removeprefix("torch.")

    return task


def nnunet(network, image, facts, folder):
    """Set up nnU-Net's predictor with the same network, without mirroring."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )

    @dataclass
    class Shapes:
        patch_size: tuple[int, ...] = (SIDE,) * 3

    class Heads:
        num_segmentation_heads = 2

    predictor.network = network
    predictor.configuration_manager = Shapes()
    predictor.label_manager = Heads()
    predictor.list_of_parameters = [network.state_dict()]
    volume = prepared(image)[0]

    def task():
        logits = predictor.predict_sliding_window_return_logits(volume)
        return logits.argmax(0).to(torch.uint8).numpy(), "float32"

    return task


def slices(  # noqa: PLR0913 - what a peer can be tuned by
    network,
    image,
    facts,
    folder,
    *,
    axes,
    batch=4,
    device="cpu",
    dtype=torch.float32,
):
    """Stock MONAI: SliceInferer over zero-copy stacks, one axis after another."""
    from monai.inferers import SliceInferer

    k = facts["context"]
    volume = prepared(image)
    side = [-(-n // 16) * 16 for n in image.shape]

    def sweep(axis):
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = k
        grown = torch.nn.functional.pad(volume.to(device, dtype), pad, mode="replicate")
        stacks = grown.unfold(2 + axis, 2 * k + 1, 1).squeeze(1).movedim(-1, 1)
        shape = [n for other, n in enumerate(side) if other != axis]
        inferer = SliceInferer(
            roi_size=tuple(shape), spatial_dim=axis, sw_batch_size=batch
        )
        return inferer(stacks, network).softmax(1)

    @torch.no_grad()
    def task():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probs = sum(sweep(axis) for axis in range(axes)) / axes
        labels = probs.argmax(1)[0].to(torch.uint8).cpu().numpy()
        return labels, str(dtype).removeprefix("torch.")

    return task


def ours(
    network,
    image,
    facts,
    folder,
    *,
    axes="z",
    core=None,
    **chosen,
):
    """Set up cellseg3d, from a volume on disk into a label file, as `predict` does."""
    from cellseg3d.bundle.model import TrainedModel
    from cellseg3d.core.input_spec import InputSpec
    from cellseg3d.datasets.intensity import IntensityScale
    from cellseg3d.io.registry import open_volume
    from cellseg3d.prediction.options import SegmentOptions
    from cellseg3d.prediction.output.blockwise import sidecar
    from cellseg3d.prediction.segment import segment_to_file

    dims = facts["spatial_dims"]
    spec = InputSpec(dims, (SIDE,) * dims, context=facts["context"])
    halo = 32 if facts["name"] == "basic_unet" else 16
    model = TrainedModel(
        "benchmark",
        Path(),
        network,
        spec,
        ("background", "cell"),
        IntensityScale("range", -1, 1),  # Intensities are not changed.
        None,
        {"core": core, "halo": halo, "axes": axes},
        "",
    )
    options = SegmentOptions(**chosen)

    def task():
        labels = folder / "ours_labels.mrc"
        volume = open_volume(folder / "image.mrc")
        segment_to_file(volume, model, labels, options, overwrite=True)
        record = json.loads(sidecar(labels).read_text())["segmentation"]
        first = record["sources"][0]
        picked = f"{first['backend']}, {first['precision']}"
        return open_volume(labels).array, picked

    return task


CASE = {
    "monai_25_b1": partial(monai, overlap=0.25, batch=1),
    "monai_25_b2": partial(monai, overlap=0.25, batch=2),
    "monai_25_b4": partial(monai, overlap=0.25, batch=4),
    "monai_50_b4": partial(monai, overlap=0.5, batch=4),
    "monai_tuned": monai_tuned,
    "nnunet": nnunet,
    "slices_1axis": partial(slices, axes=1),
    "slices_3axes": partial(slices, axes=3),
    "ours": ours,
    "ours_float32": partial(ours, precision="float32"),
    "ours_fast": partial(ours, max_ram=4 * 2**30),
    # A bundle may ask for windows as wide as the volume, if memory allows.
    "ours_wide": partial(ours, core=4096, max_ram=12 * 2**30),
    "ours_openvino": partial(ours, backend="openvino"),
    "ours_1axis": ours,
    "ours_3axes": partial(ours, axes="zyx"),
}
