"""Time and memory of `cellseg3d predict` with several channels and time points.

    python benchmarks/channels.py --json benchmarks/records/channels.json

Networks of one and of two channels are trained for one step. Then the command line
predicts a volume of one channel, one of two, and files of several time points with
`--time all`, each in a fresh process with one thread. CPU seconds and peak memory are
those of that process; the medians of the rounds are written. The row "start" is a
volume of 16^3 voxels: what every prediction costs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from acceleration import processor

import cellseg3d
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.output.writing import write_times
from cellseg3d.io.registry import write_labels, write_volume

BUNDLE = "cell_tomo_unet3d"
NAMES = ("first", "second")


def main() -> None:
    """Measure all cases, print the rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=160, help="voxels along an edge")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, nargs="*", default=[4])
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = measure(Path(place), options.size, options.times, options.rounds)
    if options.json:
        record = {
            "processor": processor(),
            "threads": 1,
            "bundle": BUNDLE,
            "rounds": options.rounds,
            "rows": rows,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, size: int, times: Sequence[int], rounds: int) -> list[dict]:
    """Return one row for each case."""
    runs = {count: train_one_step(folder / f"net{count}", count) for count in (1, 2)}
    cases = [("start", 1, 1, 16), ("one", 1, 1, size), ("two channels", 2, 1, size)]
    cases += [(f"{count} time points", 1, count, size) for count in times]
    rows = []
    for name, channels, points, edge in cases:
        place = write_case(folder / f"{name}.ome.zarr", channels, points, edge)
        more = ["--time", "all"] if points > 1 else []
        found = [
            predict(place, runs[channels], folder / "out", more) for _ in range(rounds)
        ]
        medians = {
            key: round(statistics.median(each[key] for each in found), 1)
            for key in found[0]
        }
        row = {"case": name, "channels": channels, "times": points, "edge": edge}
        rows.append({**row, **medians})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def train_one_step(folder: Path, channels: int) -> Path:
    """Train a network on a small simulated cell for one step; return its run."""
    cell = cellseg3d.simulate_case(48, seed=1)
    tomogram, labels = cell.tomogram, cell.labels.read()
    stains = np.stack([tomogram.read(), labels.astype(np.float32)])[:channels]
    folder.mkdir()
    names = NAMES[:channels]
    image = Volume(stains, tomogram.spacing, channel_names=names)
    one = image if channels > 1 else image.channel(0)
    write_volume(folder / "image.ome.tif", one)
    cells = (labels > 0).astype(np.uint8)
    write_labels(folder / "label.tif", Volume(cells, tomogram.spacing))
    files = {"image": "image.ome.tif", "label": "label.tif"}
    values = {
        "classes": ["background", "cell"],
        "channels": channels,
        "cases": [{**files, "name": "cell", "split": "training"}],
    }
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps(values), encoding="utf-8")
    settings = {"train::dataset::samples": 2, "train::dataloader::batch_size": 2}
    wanted = cellseg3d.TrainOptions(
        epochs=1, seed=1, settings=settings, progress=False, calibrate=False
    )
    return cellseg3d.train(BUNDLE, datalist, folder / "run", wanted)


def write_case(path: Path, channels: int, times: int, edge: int) -> Path:
    """Write a volume of noise, or time points that all hold the same noise."""
    random = np.random.default_rng(0)
    shape = (channels, edge, edge, edge)
    noise = random.normal(1000, 200, shape).clip(0).astype(np.uint16)
    spacing = Spacing(0.05, 0.05, 0.05)
    if times > 1:
        return write_times(path, [Volume(noise[0], spacing)] * times, labels=False)
    several = Volume(noise, spacing, channel_names=NAMES)
    return write_volume(path, several if channels > 1 else Volume(noise[0], spacing))


def predict(place: Path, run: Path, out: Path, more: Sequence[str]) -> dict:
    """Predict in a fresh process; return its CPU seconds and its peak of memory."""
    words = [sys.executable, "-m", "cellseg3d", "predict", str(place), "--bundle"]
    words += [str(run), "--out", str(out), "--device", "cpu", "--overwrite", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    ended, peak = 0, 0.0
    while not ended:
        peak = max(peak, peak_mib_of(process.pid))
        time.sleep(0.05)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"`{' '.join(words)}` failed")
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": peak,
    }


def peak_mib_of(process: int) -> float:
    """Return the largest resident memory of a process so far; 0 if it has ended.

    The peak that the system tells at the end would count the memory of this process,
    too, of which the other one began as a copy.
    """
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0


if __name__ == "__main__":
    main()
