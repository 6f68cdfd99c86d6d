"""Run each case of a benchmark in a fresh process that prints its result as JSON."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def case_parser(doc: str, size: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all such benchmarks have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--cases", default="", help="cases to run, such as ours")
    parser.add_argument(
        "--size", type=int, default=size, help="side of a volume, in voxels"
    )
    parser.add_argument("--folder", type=Path, help="folder to keep volumes in")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def run_all(
    arguments: argparse.Namespace,
    measure: Callable[[argparse.Namespace], list[dict]],
    run_case: Callable[[argparse.Namespace], dict],
) -> None:
    """Measure all cases and write the rows; in a child process, run its one case."""
    if arguments.child:
        print(json.dumps(run_case(arguments)))
        return
    with tempfile.TemporaryDirectory() as place:
        arguments.folder = arguments.folder or Path(place)
        arguments.folder.mkdir(parents=True, exist_ok=True)
        rows = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def run_fresh(script: str, case: str, threads: int, options: dict) -> dict:
    """Run one case of a script in a fresh process and return what it measured."""
    words = [sys.executable, script, "--child", case, "--threads", str(threads)]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{name}", str(each)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def busy_seconds() -> float:
    """Return the CPU seconds that all processes of the machine have used."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    ticks = [int(field) for field in fields]
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")
