"""Measure prediction and training on a GPU, beside stock MONAI.

    python benchmarks/gpu.py --out gpu_record          # about three minutes
    python benchmarks/gpu.py --out gpu_record --parts residual,slices --rounds 3

Each part writes ``OUT/PART.json`` when it is done, so finished parts are kept if the
benchmark is stopped. The volume has 400^3 voxels, and all programs use the same
weights, of a short training. The columns are: median seconds, the ratio to the seconds
of this package, seconds that the GPU worked, peak GPU memory, and the share of labels
that differs from one float32 pass over the whole volume. Stock MONAI begins with the
volume in memory; this package reads it from a file and writes a file of labels.
"""

# Cases import what they compare.
# ruff: noqa: ANN001, ANN201, ANN202, PLC0415, PLR0913

import argparse
import json
import statistics
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import numpy as np
import predict
import torch
from predict_cases import ours, prepared, slices

from cellseg3d.cli.process import tune_process
from cellseg3d.runs.record import machine

PARTS = ("residual", "basic", "slices", "training")
NETS = {"residual": "unet", "basic": "basic_unet", "slices": "unet25d"}
GIB = 2**30


def main() -> None:
    """Run the parts, one after another; write the error of a part that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a training")
    arguments = parser.parse_args()
    tune_process()
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = {"machine": machine(), "torch": torch.__version__}
    for part in arguments.parts.split(","):
        begun = time.perf_counter()
        try:
            run = training if part == "training" else predictions
            found = {**facts, "rows": run(part, arguments)}
        except Exception:
            found = {**facts, "failed": traceback.format_exc()}
            print(found["failed"], flush=True)
        found["part_s"] = round(time.perf_counter() - begun, 1)
        text = json.dumps(found, indent=1) + "\n"
        (arguments.out / f"{part}.json").write_text(text, encoding="utf-8")


def predictions(part: str, arguments: argparse.Namespace) -> list[dict]:
    """Predict a volume with this package and stock MONAI, in turn in each round."""
    network, image, expected = material(NETS[part], arguments)
    facts = predict.NETS[NETS[part]]
    place = (network, image, facts, arguments.out)
    device = arguments.device
    cases = {"ours": partial(ours, device=device)}
    if part == "slices":
        cases["ours"] = partial(ours, device=device, axes="zyx")
        cases["monai_slices"] = partial(monai_slices, device=device)
        cases["monai_slices_tuned"] = partial(monai_slices, device=device, half=True)
    else:
        cases["ours_16g"] = partial(ours, device=device, max_vram=16 * GIB)
        windows = partial(monai_windows, device=device)
        cases["monai_96_b4"] = partial(windows, side=96, batch=4)
        for side, batch in ((96, 16), (160, 4), (224, 1), (304, 1), (400, 1)):
            if side <= arguments.size:
                cases[f"monai_half_{side}_b{batch}"] = partial(
                    windows, side=side, batch=batch, half=True
                )
    rows = []
    for name, case in cases.items():
        try:
            rows.append(measured(name, case(*place), expected, device))
        except Exception as error:
            print(f"{name}: skipped, {error}"[:500], flush=True)
            continue
        rows[-1]["task"] = case(*place)
    for _ in range(arguments.rounds - 1):
        for row in rows:
            row["walls"].append(seconds_of(row["task"], device))
    own = statistics.median(rows[0]["walls"])
    for row in rows:
        row.pop("task")
        row["wall_s"] = statistics.median(row["walls"])
        row["ours_x"] = row["wall_s"] / own
        print(
            f"{part:9}{row['case']:22}{row['wall_s']:8.3f} s{row['ours_x']:7.2f} x"
            f"{row['gpu_s']:8.3f} s on the GPU{row['peak_gib']:7.2f} GiB"
            f"{row['changed']:10.1e}  {row['picked']}",
            flush=True,
        )
    return rows


def material(net: str, arguments: argparse.Namespace):
    """Return a network, a volume, and the labels of one float32 pass over it."""
    from scipy.ndimage import gaussian_filter

    from cellseg3d.core.spacing import Spacing
    from cellseg3d.core.volume import Volume
    from cellseg3d.io.registry import write_volume

    folder, size = arguments.out, arguments.size
    words = argparse.Namespace(net=net, size=size, steps=arguments.steps)
    rng = np.random.default_rng(0)
    small = gaussian_filter(rng.normal(size=(size // 4 + 1,) * 3), 3)
    coarse = small.astype(np.float32) / small.std()
    truth = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[:size, :size, :size] > 0.5
    noise = rng.standard_normal(truth.shape, np.float32)
    image = (truth + 0.5 * noise).clip(-3, 3)
    write_volume(folder / "image.mrc", Volume(image, Spacing(0.1, 0.1, 0.1)))
    torch.manual_seed(0)
    network = predict.train(predict.build(words), image, truth, words).eval()
    place = torch.device(arguments.device)
    facts = predict.NETS[net]
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        twin = network.to(place)
        whole = torch.from_numpy(image).to(place)
        if facts["spatial_dims"] == 3:
            logits = twin(whole[None, None])[0]
            labels = logits.argmax(0)
        else:
            labels = sum(whole_slices(twin, whole, axis) for axis in range(3))
            labels = labels.argmax(0)
        labels = labels.to(torch.uint8).cpu().numpy()
    network.to("cpu")
    if place.type == "cuda":
        torch.cuda.empty_cache()
    return network, image, labels


def whole_slices(network, volume, axis: int):
    """Return the probabilities (K, Z, Y, X) of stacks of slices across an axis."""
    front = volume.movedim(axis, 0)
    stack = torch.cat([front[:1], front[:1], front, front[-1:], front[-1:]])
    parts = []
    for first in range(0, len(front), 32):
        last = min(first + 32, len(front))
        stacks = [stack[n : n + 5] for n in range(first, last)]
        parts.append(network(torch.stack(stacks)).softmax(1))
    return torch.cat(parts).movedim(1, 0).movedim(1, axis + 1)


def monai_windows(network, image, facts, folder, *, device, side, batch, half=False):
    """Return a function that predicts with MONAI's sliding windows, default overlap."""
    import copy

    from monai.inferers import SlidingWindowInferer

    del facts, folder
    layout = torch.channels_last_3d if half else torch.contiguous_format
    dtype = torch.float16 if half else torch.float32
    twin = copy.deepcopy(network).to(device, dtype, memory_format=layout)
    inferer = SlidingWindowInferer((side,) * 3, batch, 0.25)
    volume = prepared(image)

    @torch.inference_mode()
    def task():
        seen = volume.to(device, dtype)
        logits = inferer(seen, lambda x: twin(x.contiguous(memory_format=layout)))
        labels = (logits[0, 1] > logits[0, 0]).to(torch.uint8).cpu().numpy()
        return labels, str(dtype).removeprefix("torch.")

    return task


def monai_slices(network, image, facts, folder, *, device, half=False):
    """Return a function that predicts slices with MONAI, one axis after another."""
    import copy

    twin = copy.deepcopy(network).to(device)
    batch = 64 if half else 4
    dtype = torch.float16 if half else torch.float32
    if half:
        twin = twin.to(dtype=dtype, memory_format=torch.channels_last)
    return slices(
        twin, image, facts, folder, axes=3, batch=batch, device=device, dtype=dtype
    )


def measured(name: str, task, expected, device: str) -> dict:
    """Return agreement, memory and GPU time of a first call, which also warms up."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    labels, picked = task()
    peak = torch.cuda.max_memory_allocated() / GIB if on_gpu else 0.0
    activities = [ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=activities) as found:
        task()
    worked = sum(each.self_device_time_total for each in found.key_averages()) / 1e6
    return {
        "case": name,
        "picked": picked,
        "peak_gib": peak,
        "gpu_s": worked,
        "changed": float(np.mean(np.asarray(labels) != expected)),
        "walls": [seconds_of(task, device)],
    }


def seconds_of(task, device: str) -> float:
    """Return the seconds that a task takes, GPU included."""
    if device != "cpu":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    task()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def training(part: str, arguments: argparse.Namespace) -> list[dict]:
    """Train with this package and with stock MONAI, each for some seconds."""
    out = arguments.out / f"{part}_rows.json"
    words = ["--kinds", "3d,2d", "--cases", "stock,ours", "--workers", "6"]
    words += ["--seconds", str(arguments.seconds), "--every", "1000", "--threads", "4"]
    words += ["--size", "160", "--device", arguments.device, "--json", str(out)]
    words += ["--folder", str(arguments.out / "training")]
    script = Path(__file__).with_name("train.py")
    subprocess.run([sys.executable, str(script), *words], check=True)
    return json.loads(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
