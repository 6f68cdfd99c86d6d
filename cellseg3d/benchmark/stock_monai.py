"""Train and predict as MONAI's tutorials do, for comparison, in its own process.

    python -m cellseg3d.benchmark.stock_monai train --fold F.json --kind 3d --out RUN
    python -m cellseg3d.benchmark.stock_monai predict --fold F.json --kind 3d --out RUN
    python -m cellseg3d.benchmark.stock_monai curve --fold F.json --kind 3d --out RUN

`CacheDataset`, `RandCropByPosNegLabeld`, `RandAffined`, flips, `UNet`, `DiceCELoss`,
Adam, float32, `SlidingWindowInferer`; in 2D the same on slices with `SliceInferer`.
Only reading, writing and the time budget come from this package.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import monai
import numpy as np
import torch
from monai.data.dataloader import DataLoader
from monai.data.dataset import CacheDataset
from monai.inferers.inferer import Inferer, SliceInferer, SlidingWindowInferer
from monai.losses.dice import DiceCELoss
from monai.networks.nets.unet import UNet
from monai.transforms.compose import Compose
from monai.transforms.croppad.dictionary import RandCropByPosNegLabeld, SpatialPadd
from monai.transforms.intensity.array import ScaleIntensityRangePercentiles
from monai.transforms.intensity.dictionary import (
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from monai.transforms.spatial.dictionary import RandAffined, RandFlipd
from monai.transforms.transform import Transform
from monai.transforms.utility.dictionary import EnsureChannelFirstd
from monai.utils.misc import set_determinism
from torch import nn

from cellseg3d.benchmark.curve import CURVE, Keeper, read_snapshots
from cellseg3d.benchmark.outcome import PREDICTED, TRAINED
from cellseg3d.benchmark.record import write_json
from cellseg3d.core.clock import CLOCKS
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.volumes import case_classes, read_case_label
from cellseg3d.io.registry import read_volume, write_labels

KEYS = ("image", "label")
WEIGHTS = "weights.pt"
KEPT = "snapshots"
# Patches as in the tutorials: 2D 128^2, 3D 96^3, smaller where the volume is thinner.
PATCH = {"2d": 128, "3d": 96}
STRIDE = 16


def main(words: Sequence[str] | None = None) -> None:
    """Train a network, or predict the held-out cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("train", "predict", "curve"))
    parser.add_argument("--fold", type=Path, required=True)
    parser.add_argument("--kind", choices=tuple(PATCH), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--volumes", type=int, default=2, help="or slices, in a step")
    parser.add_argument("--crops", type=int, default=4, help="of each of them")
    parser.add_argument("--cases", nargs="*", default=[], help="cases to predict")
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    datalist = load_datalist(options.fold)
    if options.verb == "train":
        train(datalist, options)
    elif options.verb == "predict":
        done = predict(datalist, options, options.out / WEIGHTS, options.out)
        write_json({"volumes": done}, options.out / PREDICTED)
    else:
        for number, kept in enumerate(read_snapshots(options.out / KEPT)):
            folder = options.out / CURVE / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            predict(datalist, options, kept.weights, folder)


def train(datalist: Datalist, options: argparse.Namespace) -> None:
    """Train until the budget is spent; write the weights and the number of steps."""
    set_determinism(seed=options.seed)
    arrays = [
        _arrays(case, datalist) for case in datalist.cases if case.split != "test"
    ]
    patch = patch_shape([image.shape for image, _ in arrays], options.kind)
    dataset = CacheDataset(
        _items(arrays, options.kind), _transform(patch, options.crops), progress=False
    )
    volumes = min(options.volumes, len(dataset))
    loader = DataLoader(dataset, batch_size=volumes, shuffle=True, drop_last=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build(options.kind, len(datalist.classes)).to(device)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    keeper = Keeper(
        options.out / KEPT,
        60 * options.minutes,
        CLOCKS[options.clock],
        lambda path: torch.save(network.state_dict(), path),
    )
    steps = voxels = 0
    for batch in _forever(loader):
        if not keeper.step(steps):
            break
        optimizer.zero_grad()
        logits = network(batch["image"].to(device))
        loss = loss_function(logits, batch["label"].to(device))
        loss.backward()
        optimizer.step()
        steps += 1
        voxels += batch["label"].numel()
    torch.save(network.state_dict(), options.out / WEIGHTS)
    facts = {
        "steps": steps,
        "voxels": voxels,
        "parameters": sum(each.numel() for each in network.parameters()),
        "patch": list(patch),
        "versions": {"monai": monai.__version__, "torch": torch.__version__},
        "warnings": _ignored(arrays),
    }
    write_json(facts, options.out / TRAINED)


def predict(
    datalist: Datalist, options: argparse.Namespace, weights: Path, folder: Path
) -> dict[str, dict[str, Any]]:
    """Predict the cases that the options name; return files of labels and times."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build(options.kind, len(datalist.classes))
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(tensors)
    network.eval().to(device)
    done = {}
    for case in datalist.cases:
        if case.name not in options.cases:
            continue
        begun = monotonic()
        volume = _read(case)
        inferer = _inferer(options.kind, patch_shape([volume.shape], options.kind))
        with torch.inference_mode():
            tensor = torch.as_tensor(_scaled(volume.read()))[None, None].to(device)
            logits = inferer(tensor, network)
        labels = logits[0].argmax(0).to(torch.uint8).cpu().numpy()
        path = folder / f"{case.name}.tif"
        write_labels(path, volume.with_array(labels))
        done[case.name] = {"labels": str(path), "elapsed_s": monotonic() - begun}
    return done


def build(kind: str, classes: int) -> nn.Module:
    """Return the UNet of MONAI's tutorials."""
    network: nn.Module = UNet(
        spatial_dims=2 if kind == "2d" else 3,
        in_channels=1,
        out_channels=classes,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm="batch",
    )
    return network


def patch_shape(shapes: Sequence[Sequence[int]], kind: str) -> tuple[int, ...]:
    """Return the patch shape of the tutorials, but no larger than the smallest volume.

    Each side is a multiple of 16, as the four strides of the network require.
    """
    smallest = np.min(np.asarray(shapes), axis=0)[1 if kind == "2d" else 0 :]
    cut = np.minimum(smallest, PATCH[kind]) // STRIDE * STRIDE
    return tuple(int(side) for side in np.maximum(cut, STRIDE))


def _inferer(kind: str, patch: tuple[int, ...]) -> Inferer:
    if kind == "2d":
        return SliceInferer(roi_size=patch, spatial_dim=0, sw_batch_size=8, overlap=0.5)
    return SlidingWindowInferer(roi_size=patch, sw_batch_size=4, overlap=0.5)


def _transform(patch: tuple[int, ...], crops: int) -> Compose:
    """Return the crop, flips and affine transform of the tutorials."""
    return Compose(
        [
            EnsureChannelFirstd(KEYS, channel_dim="no_channel"),
            SpatialPadd(KEYS, patch),
            RandCropByPosNegLabeld(
                KEYS, "label", spatial_size=patch, pos=1, neg=1, num_samples=crops
            ),
            *stock_augmentation(patch),
        ]
    )


def stock_augmentation(patch: Sequence[int]) -> list[Transform]:
    """Return the flips, affine and intensity changes of the tutorials for a crop."""
    flips = [RandFlipd(KEYS, prob=0.5, spatial_axis=a) for a in range(len(patch))]
    return [
        *flips,
        RandAffined(
            KEYS,
            prob=0.5,
            rotate_range=[0.0] * (len(patch) - 2) + [np.pi / 12],
            scale_range=[0.1] * len(patch),
            mode=("bilinear", "nearest"),
            padding_mode="border",
        ),
        RandScaleIntensityd("image", factors=0.1, prob=0.5),
        RandShiftIntensityd("image", offsets=0.1, prob=0.5),
    ]


def _items(
    arrays: Sequence[tuple[np.ndarray, np.ndarray]], kind: str
) -> list[dict[str, Any]]:
    """Return the volumes, or their slices, that hold any foreground."""
    if kind == "3d":
        return [{"image": image, "label": label} for image, label in arrays]
    slices = [
        {"image": image_yx, "label": label_yx}
        for image, label in arrays
        for image_yx, label_yx in zip(image, label, strict=True)
    ]
    return [each for each in slices if each["label"].any()] or slices


def _arrays(case: Case, datalist: Datalist) -> tuple[np.ndarray, np.ndarray]:
    raw = read_case_label(case, datalist)
    label = case_classes(raw.read(), datalist, case, raw.name)
    # MONAI's tutorials have no ignore label; unannotated voxels become background.
    return _scaled(_read(case).read()), np.where(label == IGNORE, 0, label)


def _read(case: Case) -> Volume:
    volume = read_volume(case.image, **case.opening)
    return replace(volume, spacing=case.spacing or volume.spacing)


def _scaled(image: np.ndarray) -> np.ndarray:
    scale = ScaleIntensityRangePercentiles(0.5, 99.5, 0.0, 1.0, clip=True)
    return np.asarray(scale(image.astype(np.float32)), np.float32)


def _ignored(arrays: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[str]:
    empty = sum(not label.any() for _, label in arrays)
    return [f"{empty} training volumes hold background only"] if empty else []


def _forever(loader: DataLoader) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        yield from loader


if __name__ == "__main__":
    main()
