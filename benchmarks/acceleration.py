"""Measure what each part of the acceleration gains by switching it off.

    python benchmarks/acceleration.py            # about a quarter of an hour
    python benchmarks/acceleration.py --pairs 1 --nets unet3d

Each kind of processor is measured in a process of its own, with one thread. With
``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2``, this processor stands for those
without AVX-512 and bfloat16. Prediction with all parts and prediction without one part
run in turn on the same volume, and the ratio of their CPU seconds is taken, because
other programs may use the machine. The median over the pairs is recorded. Setting up a
prediction and the trial of bfloat16 are not counted. The script writes
`benchmarks/records/acceleration.json` and `docs/acceleration.md`.
"""

# Parts are switched off by replacing functions, whose signatures differ.
# ruff: noqa: ANN001, ANN201, ANN202, PLC0415

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from unittest.mock import patch

from cellseg3d.core.processes import processor_name

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "records" / "acceleration.json"
PAGE = ROOT / "docs" / "acceleration.md"
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
# The environment and the number format of each kind of processor, by its name.
KINDS = {
    "this processor, bfloat16": ({}, "bfloat16"),
    "this processor, float32": ({}, "float32"),
    "AVX2 alone, float32": (AVX2, "float32"),
}
# A part is kept if some network on some kind takes this many times as long without it.
LEAST = 1.05
A = "cellseg3d.acceleration"
PARTS = {
    "everything (`--acceleration off`)": {},
    "norms folded into convolutions": {f"{A}.folding._fold_norms": lambda traced: None},
    "merged oneDNN calls": {f"{A}.prepare.has_onednn": lambda: False},
    "growth by sub-pixels": {f"{A}.merged.SUBPIXEL_CHANNELS": 0},
    "two classes as one number": {f"{A}.prepare.to_class_difference": lambda graph: 0},
    "features cut to what is kept": {f"{A}.trim.PAYS": 0.0},
    "some planes of a window at a time": {f"{A}.prepare.stream_of": lambda graph: None},
    "channels last": {"torch.channels_last": None, "torch.channels_last_3d": None},
    "error diffusion in rounding": {
        f"{A}.rounding.shaped": lambda weight: weight.bfloat16().float()
    },
    "torch instead of OpenVINO": {},
}
TRAINING = {
    "layers of training": {"cellseg3d.training.precision.QuickLayers": nullcontext},
    "channels last in training": {
        "cellseg3d.training.precision._channels_last": lambda images: images
    },
    "everything in training": {},
}
# What the page says about each part.
WORDS = {
    "norms folded into convolutions": "A trained norm is a factor and an offset, which "
    "the weights of its convolution take over.",
    "merged oneDNN calls": "A convolution, the addition and the activation after it "
    "run as one call to oneDNN, the library with which torch computes on CPUs.",
    "growth by sub-pixels": "A transposed convolution runs as a plain one whose "
    "channels are then arranged as finer voxels.",
    "two classes as one number": "A network of two classes computes only the "
    "difference of its two logits.",
    "features cut to what is kept": "On the way up, features are cut to those on which "
    "the kept core of a window depends.",
    "some planes of a window at a time": "A 3D network runs a long window some "
    "planes at a time and keeps the planes that later ones need.",
    "channels last": "The channels of a voxel lie side by side in memory.",
    "error diffusion in rounding": "The error of rounding a weight to bfloat16 is "
    "added to the next weight of the kernel, so that the errors nearly cancel.",
    "torch instead of OpenVINO": "`--backend openvino` computes the network with "
    "OpenVINO instead; this part is off by default.",
    "layers of training": "Layers that torch trains slowly on a CPU run by its faster "
    "kernels.",
    "channels last in training": "The same layout of memory in training.",
}
SIZES = {
    "unet3d": (144, 128, 128),
    "unet25d": (16, 160, 160),
    # This volume takes several windows, because one alone has no halo to leave out.
    "basic_unet3d": (16, 256, 256),
}


def main() -> None:
    """Measure all kinds, each in a fresh process, and write the record and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--nets", default=",".join(SIZES))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments)
        return
    wanted = arguments.nets.split(",")
    rows = [row for row in earlier_rows() if row["net"] not in wanted]
    for kind, (environment, _) in KINDS.items():
        words = ["--pairs", str(arguments.pairs), "--nets", arguments.nets]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--child", kind, *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows += [json.loads(line) for line in done.stdout.splitlines()]
    record = {
        "command": "python " + " ".join(["benchmarks/acceleration.py", *sys.argv[1:]]),
        "processor": processor_name(),
        "threads": 1,
        "seconds": "CPU seconds of the process; ratios are medians of pairs",
        "sizes_zyx": SIZES,
        "rows": rows,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")


def earlier_rows() -> list[dict]:
    """Return the rows of the existing record, so that other networks keep theirs."""
    if not RECORD.exists():
        return []
    return json.loads(RECORD.read_text(encoding="utf-8"))["rows"]


def measure(arguments: argparse.Namespace) -> None:
    """Print one JSON line for each network and part."""
    import torch

    from cellseg3d.cli.process import tune_process
    from cellseg3d.models.hardware import can_bfloat16

    tune_process()
    torch.set_num_threads(1)
    _, precision = KINDS[arguments.child]
    if precision == "bfloat16" and not can_bfloat16(torch.device("cpu")):
        print("bfloat16 is skipped: this processor lacks it", file=sys.stderr)
        return
    for net in arguments.nets.split(","):
        model, volume = model_of(net), volume_of(net)
        # The first run is not measured, because oneDNN compiles its code in it.
        exact, _ = predict(model, volume, "float32")
        predict(model, volume, precision)
        for part, changes in PARTS.items():
            ratios, seconds, labels = [], [], None
            for _ in range(arguments.pairs):
                _, with_all = predict(model, volume, precision)
                labels, without = predict(model, volume, precision, part, changes)
                if labels is None:
                    break
                ratios.append(without / with_all)
                seconds.append(with_all)
            if labels is None:
                continue
            changed = float((labels != exact).mean())
            show(arguments.child, net, part, ratios, seconds, changed)
    measure_training(arguments, precision)


def show(kind, net, part, ratios, seconds, changed=None) -> None:
    """Print the gain of one part."""
    row = {
        "kind": kind,
        "net": net,
        "part": part,
        "times_without": round(statistics.median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "cpu_s_with_all": round(statistics.median(seconds), 3),
        "changed_labels_without": changed,
    }
    print(json.dumps(row), flush=True)
    print(f"{kind}, {net}, {part}: {row['times_without']}", file=sys.stderr, flush=True)


def model_of(net):
    """Return a model of two classes whose norms have statistics as after training."""
    import torch

    from cellseg3d.bundle.model import TrainedModel
    from cellseg3d.core.input_spec import InputSpec
    from cellseg3d.datasets.intensity import IntensityScale
    from cellseg3d.models.unet import build_network

    flat = net == "unet25d"
    spec = InputSpec(2, (96, 96), context=2) if flat else InputSpec(3, (96,) * 3)
    torch.manual_seed(0)
    network = build_network("basic_unet" if "basic" in net else "unet", spec, 2)
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    window = {"halo": 32 if "basic" in net else 16, "axes": "zyx"}
    return TrainedModel(
        "benchmark",
        Path(),
        network.eval(),
        spec,
        ("background", "cell"),
        IntensityScale("range", -3, 3),
        None,
        window,
        "",
    )


def volume_of(net):
    """Return a volume of smooth noise."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    from cellseg3d.core.volume import Volume

    noise = np.random.default_rng(0).normal(size=SIZES[net])
    smooth = gaussian_filter(noise, 2)
    return Volume((smooth / smooth.std()).astype(np.float32))


def predict(model, volume, precision, part="", changes=None):
    """Return labels and CPU seconds of a prediction with some functions replaced.

    The labels are None if the part does not exist in this number format.
    """
    import torch

    from cellseg3d.prediction.options import SegmentOptions
    from cellseg3d.prediction.setup import set_up

    chosen = {"precision": precision}
    if part.startswith("everything"):
        chosen["acceleration"] = "off"
    if "OpenVINO" in part:
        chosen["backend"] = "openvino"
    if "rounding" in part and precision == "float32":
        return None, 0.0
    with ExitStack() as stack:
        for name, other in (changes or {}).items():
            contiguous = torch.contiguous_format if other is None else other
            stack.enter_context(patch(name, contiguous))
        pipeline = set_up(volume, [model], SegmentOptions(**chosen))
        begun = time.process_time()
        labels = pipeline.whole().labels
        return labels, time.process_time() - begun


def measure_training(arguments: argparse.Namespace, precision: str) -> None:
    """Print what parts gain in a training step: forward, backward and optimiser."""
    import torch

    from cellseg3d.models.losses import DiceCELoss
    from cellseg3d.training.precision import AutocastInferer
    from cellseg3d.training.processes import place_network

    loss_of = DiceCELoss()
    for net, sides in (("unet3d", (1, 48, 48, 48)), ("unet25d", (5, 128, 128))):
        if net not in arguments.nets.split(","):
            continue
        image = torch.randn(2, *sides)
        label = (image[:, :1] > 0.5).long()

        def step(changes, acceleration="auto", *, net=net, image=image, label=label):
            network = place_network(model_of(net).network.train(), "cpu")
            optimiser = torch.optim.AdamW(network.parameters())
            with ExitStack() as stack:
                for name, other in changes.items():
                    stack.enter_context(patch(name, other))
                inferer = AutocastInferer(precision, acceleration)
                begun = time.process_time()
                for _ in range(4):
                    optimiser.zero_grad()
                    loss_of(inferer(image, network), label).mean().backward()
                    optimiser.step()
                return (time.process_time() - begun) / 4

        step({})
        for part, changes in TRAINING.items():
            word = "off" if part.startswith("everything") else "auto"
            pairs = [(step({}), step(changes, word)) for _ in range(arguments.pairs)]
            ratios = [without / with_all for with_all, without in pairs]
            show(arguments.child, net, part, ratios, [one for one, _ in pairs])


def page(record: dict) -> str:
    """Return the table of a record as a page of the documentation."""
    rows = record["rows"]
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    nets = [net for net in SIZES if any(row["net"] == net for row in rows)]
    found = {(row["kind"], row["net"], row["part"]): row for row in rows}
    lines = [
        "# What each part of the acceleration gains",
        "",
        "The acceleration makes prediction and training on CPUs faster. It changes",
        "only how a network is computed. If you look for the cause of a fault,",
        "`--acceleration off` switches all of it off. It consists of these parts:",
        "",
        "| part | what it does |",
        "| --- | --- |",
        *(f"| {part} | {words} |" for part, words in WORDS.items()),
        "",
        "The tables show how many times as long prediction takes without one part",
        "while all others are on: 1.30 means 30 % longer. The network of slices",
        "(unet25d) does not run planes in turn, so its number for that part shows the",
        "noise of the measurement.",
        "",
        f"The processor is {record['processor']}, with one thread. Pairs of runs on a",
        "shared machine are compared by the CPU seconds of the process, and the median",
        'over the pairs is shown. "AVX2 alone" is the same processor with',
        "`ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2`. The heap settings of the",
        "command line are on everywhere. `python benchmarks/acceleration.py` writes",
        "this page from `benchmarks/records/acceleration.json`.",
        "",
    ]
    for kind in kinds:
        lines += [f"## {kind[0].upper()}{kind[1:]}", ""]
        lines += ["| without | " + " | ".join(nets) + " |"]
        lines += ["| --- |" + " --- |" * len(nets)]
        for part in (*PARTS, *TRAINING):
            here = [found.get((kind, net, part)) for net in nets]
            if any(here):
                cells = [f"{one['times_without']:.2f}" if one else "" for one in here]
                lines.append(f"| {part} | " + " | ".join(cells) + " |")
        lines.append("")
    most: dict[str, float] = {}
    for row in rows:
        part = row["part"]
        most[part] = max(row["times_without"], most.get(part, 0.0))
    idle = [part for part, times in most.items() if times < LEAST]
    lines += [
        f"These parts gain less than {LEAST - 1:.0%} everywhere: "
        + ("; ".join(idle) if idle else "none")
        + ".",
        "Error diffusion gains no time. It keeps labels closer to those of float32: in",
        "a simulated tomogram of 96^3 voxels, `cell_tomo_unet3d` in bfloat16 changes",
        "5.2e-05 of the labels with it and 7.8e-05 without.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
