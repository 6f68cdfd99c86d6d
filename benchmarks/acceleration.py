"""What each part of the acceleration gains: every part switched off in turn, in pairs.

    python benchmarks/acceleration.py            # about a quarter of an hour
    python benchmarks/acceleration.py --pairs 1 --nets unet3d

Each kind of processor is a process of its own, one thread: this one, and the same with
``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2``, which stands in for processors
without AVX-512 and bfloat16. Prediction with everything and prediction without one
part run in turn on the same volume; CPU seconds of the process are compared, since
others may use the machine, and the median of the pairs' ratios is kept. Setting up,
and the trial of bfloat16, are not counted. Writes
`benchmarks/records/acceleration.json` and `docs/acceleration.md`.
"""

# Measured parts are switched off by replacing functions, whose signatures vary.
# ruff: noqa: ANN001, ANN201, ANN202, PLC0415

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "records" / "acceleration.json"
PAGE = ROOT / "docs" / "acceleration.md"
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
# Name of the kind: environment, number format.
KINDS = {
    "this processor, bfloat16": ({}, "bfloat16"),
    "this processor, float32": ({}, "float32"),
    "AVX2 alone, float32": (AVX2, "float32"),
}
# A part stays if without it some network on some kind takes this much longer.
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
SIZES = {
    "unet3d": (144, 128, 128),
    "unet25d": (16, 160, 160),
    # Several windows: one alone has no halo to leave out.
    "basic_unet3d": (16, 256, 256),
}


def main() -> None:
    """Measure all kinds, each in a fresh process; write the record and the page."""
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
        "processor": processor(),
        "threads": 1,
        "seconds": "CPU seconds of the process; ratios are medians of pairs",
        "sizes_zyx": SIZES,
        "rows": rows,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")


def earlier_rows() -> list[dict]:
    """Return the rows of the record that is there: other networks keep theirs."""
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
        print("bfloat16: skipped, this processor has none", file=sys.stderr)
        return
    for net in arguments.nets.split(","):
        model, volume = model_of(net), volume_of(net)
        # The first run also makes oneDNN write its code.
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
    """Print what one part was found to gain."""
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
    """Return a network with settled statistics, two classes, as a model."""
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
    """Return smooth noise."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    from cellseg3d.core.volume import Volume

    noise = np.random.default_rng(0).normal(size=SIZES[net])
    smooth = gaussian_filter(noise, 2)
    return Volume((smooth / smooth.std()).astype(np.float32))


def predict(model, volume, precision, part="", changes=None):
    """Return labels and CPU seconds, with some functions replaced; None: cannot."""
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
    """Print what parts gain in a step of a training: forward, backward, optimiser."""
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


def processor() -> str:
    """Return the processor's name."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def page(record: dict) -> str:
    """Return the table of a record as a page of the documentation."""
    rows = record["rows"]
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    nets = [net for net in SIZES if any(row["net"] == net for row in rows)]
    found = {(row["kind"], row["net"], row["part"]): row for row in rows}
    lines = [
        "# What each part of the acceleration gains",
        "",
        "How many times as long prediction takes without a part, all others being on:",
        "1.30 means 30 % longer. Slices have no planes to run in turn, so what stands",
        "for that in the column of unet25d is noise: a few percent.",
        f"Processor: {record['processor']}, one thread,",
        "CPU seconds of the process, medians of pairs in turn on a shared machine;",
        '"AVX2 alone" is the same processor with',
        "`ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2`. Heap settings of the",
        "command line are on in all. Written by `python benchmarks/acceleration.py`",
        "from `benchmarks/records/acceleration.json`.",
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
        f"Parts that gain less than {LEAST - 1:.0%} everywhere: "
        + ("; ".join(idle) if idle else "none")
        + ".",
        "Error diffusion gains no time: it keeps the labels of bfloat16 close enough",
        "to those of float32 for the trial to allow it.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
