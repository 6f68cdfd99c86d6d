"""Train each network on real volumes for the same few minutes and score the others.

    python benchmarks/real_data.py --data "$CELLSEG3D_DATA" --out runs/real

The script trains the shipped bundles on the quadrants TL and TR and tests on BL,
through the command line and with nothing set but the time. It prints a table and writes
`results.json`; a run that is complete is not repeated. The column "stock" holds what a
stock MONAI recipe (float32, DiceCE, Adam) reached in 300 s with one seed on two cores
of a similar machine, measured before this project began.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

BUNDLES = {
    "2D": "cell_tomo_unet2d",
    "2.5D": "cell_tomo_unet25d",
    "3D": "cell_tomo_unet3d",
}
STOCK = {
    ("vnc_mito", "2D"): 0.819,
    ("vnc_mito", "2.5D"): 0.745,
    ("vnc_mito", "3D"): 0.525,
    ("cdeep3m_mito", "2D"): 0.659,
    ("cdeep3m_mito", "2.5D"): 0.608,
    ("cdeep3m_mito", "3D"): 0.519,
}
JOBS = [*STOCK, ("vnc_all", "2D")]


def main() -> None:
    """Run what has no scores yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="jobs to run, such as vnc_mito:2D")
    options = parser.parse_args()
    lists = options.out / "datalists"
    script = Path(__file__).with_name("datalists.py")
    place = ["--data", str(options.data), "--out", str(lists), "--test", "BL"]
    subprocess.run([sys.executable, str(script), *place], check=True)
    results = []
    for task, kind in JOBS:
        if options.only and f"{task}:{kind}" not in options.only:
            continue
        run = options.out / f"{task}_{kind}_seed{options.seed}"
        scores = run / "scores.json"
        if not scores.is_file():
            train_and_score(lists / f"{task}.json", BUNDLES[kind], run, options)
        results.append(summary(task, kind, run))
        print_row(results[-1])
    path = options.out / "results.json"
    path.write_text(json.dumps(results, indent=2) + "\n")


def train_and_score(
    datalist: Path, bundle: str, run: Path, options: argparse.Namespace
) -> None:
    """Train, predict and evaluate through the command line."""
    cases = json.loads(datalist.read_text())["cases"]
    tests = [case for case in cases if case.get("split") == "test"]
    labels = run / "labels"
    cellseg3d(
        *(
            "train",
            "--from-scratch",
            "--bundle",
            bundle,
            "--data",
            str(datalist),
            "--fold",
            "none",
        ),
        *("--minutes", str(options.minutes), "--seed", str(options.seed)),
        *("--out", str(run)),
    )
    images = [case["image"] for case in tests]
    spacing = tests[0].get("spacing_um")
    given = ["--spacing-um", *map(str, spacing)] if spacing else []
    cellseg3d("predict", *images, "--bundle", str(run), "--out", str(labels), *given)
    cellseg3d(
        *("evaluate", str(labels), "--datalist", str(datalist)),
        *("--json", str(run / "scores.json")),
    )


def cellseg3d(*words: str) -> None:
    """Run one command of cellseg3d in a process of its own."""
    subprocess.run([sys.executable, "-m", "cellseg3d", *words], check=True)


def summary(task: str, kind: str, run: Path) -> dict[str, object]:
    """Return the scores and the cost of a finished run."""
    scores = json.loads((run / "scores.json").read_text())["mean"]
    record = json.loads((run / "run.json").read_text())
    return {
        "task": task,
        "kind": kind,
        "dice": {name: values["dice"] for name, values in scores.items()},
        "stock_dice": STOCK.get((task, kind)),
        "steps": record["iteration"],
        "train_s": record["cost"]["wall_s"],
    }


def print_row(row: dict[str, object]) -> None:
    """Print one line of the table."""
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
