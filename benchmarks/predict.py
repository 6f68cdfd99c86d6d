"""Time and memory of whole-volume prediction: stock MONAI, nnU-Net and ours.

All cases run on the same weights and the same volume, each in a fresh process, so that
peaks of memory do not hide behind one another:

    python benchmarks/predict.py                      # all cases, 400^3
    python benchmarks/predict.py --size 128 --cases ours,monai_25_b1 --rounds 1

With ``--folder`` the volume, the weights, the float32 answer and every run are kept
there; cases measured later are put beside those measured before.

Columns: wall and CPU seconds (medians of the rounds), how many times longer than ours,
peak memory above imports, Dice and changed labels against one float32 pass over the
whole volume, and useful FLOPs (those of that one pass) over the machine's ceiling: the
fastest convolution or matrix product in a number format that its hardware multiplies.
Peers run in that format, too. Ours runs in a process that is set up as the command line
sets up its own. Run it on a quiet machine. nnU-Net needs ``pip install nnunetv2``.
"""

# Cases import what they compare, and nothing else, in their own process.
# ruff: noqa: ANN001, ANN201, PLC0415

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from fresh_process import busy_seconds, case_parser, run_all, run_fresh

NETS = {
    "unet": {"name": "unet", "spatial_dims": 3, "context": 0},
    "basic_unet": {"name": "basic_unet", "spatial_dims": 3, "context": 0},
    "unet25d": {"name": "unet", "spatial_dims": 2, "context": 2},
}
CASES = {
    "unet": (
        "monai_25_b1",
        "monai_25_b4",
        "monai_50_b4",
        "monai_tuned",
        "nnunet",
        "ours_float32",
        "ours",
        "ours_fast",
        "ours_openvino",
    ),
    "basic_unet": ("monai_25_b1", "monai_25_b2", "ours", "ours_wide", "ours_openvino"),
    "unet25d": ("slices_1axis", "slices_3axes", "ours_1axis", "ours_3axes"),
}


def main() -> None:
    """Run the cases of one network and print the table."""
    parser = case_parser(__doc__, size=400)
    parser.add_argument("--net", default="unet", choices=sorted(NETS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="training steps")
    run_all(parser.parse_args(), measure_all, run_case)


def measure_all(arguments: argparse.Namespace) -> list[dict]:
    """Measure every case, rounds interleaved; print and return the rows."""
    child(arguments, "prepare", max(thread_counts(arguments)))
    ceiling = {n: child(arguments, "ceiling", n) for n in thread_counts(arguments)}
    for count, found in ceiling.items():
        for name, speed in found["measured"].items():
            print(f"{name}, {count} thread(s): {speed:.0f} GFLOP/s")
        for name, reason in found["skipped_formats"].items():
            print(f"{name}: skipped, {reason}")
    wanted = arguments.cases.split(",") if arguments.cases else CASES[arguments.net]
    log = arguments.folder / f"{arguments.net}_{arguments.size}_runs.jsonl"
    for turn in range(arguments.rounds):
        for case in wanted:
            for count in thread_counts(arguments):
                found = child(arguments, case, count)
                if "skipped" in found:
                    print(f"{case}: skipped, {found['skipped']}")
                    continue
                with log.open("a") as lines:
                    lines.write(json.dumps({"case": case, "threads": count, **found}))
                    lines.write("\n")
                print(
                    f"round {turn + 1}: {case}, {count} thread(s): "
                    f"{found['wall_s']:.2f} s",
                    flush=True,
                )
    runs: dict[tuple[str, int], list[dict]] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        run = json.loads(line)
        if run["threads"] in ceiling:
            runs.setdefault((run["case"], run["threads"]), []).append(run)
    rows = [summary(key, found, ceiling[key[1]]) for key, found in runs.items()]
    show(rows)
    return rows


def summary(key: tuple[str, int], runs: list[dict], ceiling: dict) -> dict:
    """Return the medians of a case's runs."""
    row = {"case": key[0], "threads": key[1], "runs": len(runs)}
    for name in ("wall_s", "cpu_s", "peak_mib", "others"):
        row[name] = statistics.median(run[name] for run in runs)
    row.update({name: runs[0][name] for name in ("dice", "changed", "picked")})
    speed = runs[0]["useful_gflop"] / row["wall_s"]
    row["ceiling_share"] = speed / ceiling["gflops"]
    return row


def show(rows: list[dict]) -> None:
    """Print a table; ratios are to our default of the same number of threads."""
    head = "threads      wall s    CPU s   ours x  peak MiB     Dice   changed  ceiling"
    print(f"\n{'case':16}{head}")
    for row in rows:
        same = [r for r in rows if r["threads"] == row["threads"]]
        ours = [r for r in same if r["case"] in ("ours", "ours_3axes")]
        ratio = row["wall_s"] / ours[0]["wall_s"] if ours else float("nan")
        print(
            f"{row['case']:16}{row['threads']:7}{row['wall_s']:12.2f}"
            f"{row['cpu_s']:9.2f}{ratio:9.2f}{row['peak_mib']:10.0f}"
            f"{row['dice']:9.5f}{row['changed']:10.1e}{row['ceiling_share']:8.1%}"
            f"  {row['picked']}, {row['others']:.2f} CPUs busy elsewhere"
        )


def thread_counts(arguments: argparse.Namespace) -> list[int]:
    """Return the numbers of threads to measure with."""
    return [int(word) for word in arguments.threads.split(",")]


def child(arguments: argparse.Namespace, case: str, threads: int) -> dict:
    """Run one case in a fresh process and return what it measured."""
    names = ("net", "size", "steps", "folder")
    options = {name: getattr(arguments, name) for name in names}
    return run_fresh(__file__, case, threads, options)


# In the child process ---------------------------------------------------------------


def run_case(arguments: argparse.Namespace) -> dict:
    """Run one case and return what it measured."""
    from cellseg3d.cli.process import tune_process

    if arguments.child.startswith("ours"):
        # OpenMP reads its settings when torch loads.
        tune_process()
    import torch

    torch.set_num_threads(int(arguments.threads))
    if arguments.child == "prepare":
        prepare(arguments)
        return {}
    if arguments.child == "ceiling":
        return ceilings()
    if arguments.child == "nnunet" and not importlib.util.find_spec("nnunetv2"):
        return {"skipped": "pip install nnunetv2 to compare with it"}
    return measure(arguments)


def measure(arguments: argparse.Namespace) -> dict:
    """Return time, memory and agreement of one case."""
    import torch
    from predict_cases import CASE

    folder = arguments.folder
    network = build(arguments)
    network.load_state_dict(torch.load(folder / f"{arguments.net}.pt"))
    image = np.load(folder / "image.npy", mmap_mode="r")
    task = CASE[arguments.child](network.eval(), image, NETS[arguments.net], folder)
    base, busy = peak_mib(reset=True), busy_seconds()
    wall, cpu = time.perf_counter(), time.process_time()
    labels, picked = task()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_mib() - base
    expected = np.load(folder / f"{arguments.net}_labels.npy", mmap_mode="r")
    labels = np.asarray(labels)
    both = int(((labels > 0) & (expected > 0)).sum())
    size = int((labels > 0).sum()) + int((expected > 0).sum())
    useful = json.loads((folder / f"{arguments.net}.json").read_text())
    axes = 3 if arguments.child.endswith("3axes") else 1
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mib": peak,
        "others": max(0.0, (busy_seconds() - busy - cpu) / wall),
        "dice": 2 * both / max(1, size),
        "changed": float(np.mean(labels != expected)),
        "useful_gflop": useful["gflop"] * axes,
        "picked": picked,
    }


def prepare(arguments: argparse.Namespace) -> None:
    """Make the volume, train the network a little, save the float32 answer."""
    import torch
    from scipy.ndimage import gaussian_filter

    from cellseg3d.core.spacing import Spacing
    from cellseg3d.core.volume import Volume
    from cellseg3d.io.registry import write_volume

    folder, size = arguments.folder, arguments.size
    target = folder / f"{arguments.net}_labels.npy"
    if target.exists():
        return
    rng = np.random.default_rng(0)
    small = gaussian_filter(rng.normal(size=(size // 4 + 1,) * 3), 3)
    coarse = small.astype(np.float32) / small.std()
    truth = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[:size, :size, :size] > 0.5
    image = truth.astype(np.float32) + rng.normal(0, 0.5, truth.shape).astype("f4")
    image = image.clip(-3, 3)  # where the scale of ours ends
    np.save(folder / "image.npy", image)
    write_volume(folder / "image.mrc", Volume(image, Spacing(0.1, 0.1, 0.1)))
    torch.manual_seed(0)
    network = train(build(arguments), image, truth, arguments)
    torch.save(network.state_dict(), folder / f"{arguments.net}.pt")
    labels, gflop = reference(network.eval(), image, NETS[arguments.net])
    (folder / f"{arguments.net}.json").write_text(json.dumps({"gflop": gflop}))
    np.save(target, labels)


def build(arguments: argparse.Namespace):
    """Return the network of this run, with frozen batch norms."""
    from cellseg3d.core.input_spec import InputSpec
    from cellseg3d.models.unet import build_network

    facts = NETS[arguments.net]
    dims = facts["spatial_dims"]
    spec = InputSpec(dims, (96,) * dims, context=facts["context"])
    return build_network(facts["name"], spec, 2)


def train(network, image, truth, arguments):
    """Return the network after a few steps, so that its answers mean something."""
    import torch

    facts = NETS[arguments.net]
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    rng = np.random.default_rng(1)
    side = min(48 if facts["spatial_dims"] == 3 else 128, arguments.size)
    depth = side if facts["spatial_dims"] == 3 else 2 * facts["context"] + 1
    for _ in range(arguments.steps):
        images, labels = [], []
        for _ in range(2):
            at = [
                int(rng.integers(0, n - s + 1))
                for n, s in zip(image.shape, (depth, side, side), strict=True)
            ]
            box = tuple(
                slice(a, a + s) for a, s in zip(at, (depth, side, side), strict=True)
            )
            images.append(image[box])
            labels.append(truth[box])
        x = torch.from_numpy(np.stack(images))
        y = torch.from_numpy(np.stack(labels)).long()
        if facts["spatial_dims"] == 3:
            x = x[:, None]
        else:
            y = y[:, facts["context"]]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    return network


def reference(network, image, facts):
    """Return labels of one float32 pass over the volume, and its GFLOP."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cellseg3d.prediction.inferer import VolumeInferer

    dims = facts["spatial_dims"]
    spec = {"spatial_dims": dims, "patch_shape": [96] * dims}
    spec["context"] = facts["context"]
    inferer = VolumeInferer(spec, {"core": 4096, "halo": 0}, "float32")
    logits = inferer(torch.from_numpy(image)[None, None], network)[0]
    labels = (logits[1] > logits[0]).numpy().astype(np.uint8)
    side = 96 if dims == 3 else 192
    shape = (
        (1, 1, *(side,) * 3) if dims == 3 else (1, 2 * facts["context"] + 1, side, side)
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(shape))
    per_voxel = counter.get_total_flops() / side**dims
    return labels, per_voxel * image.size / 1e9


def ceilings() -> dict:
    """Return the speeds of this machine in the formats that its hardware multiplies."""
    import torch

    from cellseg3d.models.hardware import has_fast_bfloat16

    formats, skipped = [torch.float32], {}
    if has_fast_bfloat16(torch.device("cpu")):
        formats.append(torch.bfloat16)
    else:
        skipped["bfloat16"] = "the processor does not multiply it in hardware"
    found = {}
    for dtype in formats:
        name = str(dtype).removeprefix("torch.")
        one = torch.randn(2048, 2048).to(dtype)
        product = 2 * 2048**3 / least_seconds(partial(torch.mm, one, one)) / 1e9
        image = torch.randn(1, 64, 48, 48, 48).to(dtype)
        layer = torch.nn.Conv3d(64, 64, 3, padding=1, bias=False).to(dtype)
        layout = torch.channels_last_3d
        image, layer = image.to(memory_format=layout), layer.to(memory_format=layout)
        with torch.inference_mode():
            seconds = least_seconds(partial(layer, image))
        found[f"product in {name}"] = product
        found[f"convolution in {name}"] = 2 * 27 * 64 * 64 * 48**3 / seconds / 1e9
    return {
        "gflops": max(found.values()),
        "measured": found,
        "skipped_formats": skipped,
    }


def least_seconds(call: Callable[[], object]) -> float:
    """Return the shortest of twelve calls."""
    taken = []
    for _ in range(12):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def peak_mib(*, reset: bool = False) -> float:
    """Return the largest resident memory so far; or now, forgetting the past."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    main()
