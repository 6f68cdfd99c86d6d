"""Print the time and the peak memory of simulating a tomogram.

    python benchmarks/simulate.py --shapes 96 200 400

Each size runs in a process of its own, so that its peak memory can be read. Both mounts
are scanned with their default settings.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

from cellseg3d.simulate.case import simulate_case


def main() -> None:
    """Time every shape in both mounts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, nargs="+", default=[96, 200, 400])
    parser.add_argument("--one", nargs=2, metavar=("SHAPE", "MOUNT"))
    options = parser.parse_args()
    if options.one:
        print(json.dumps(time_one(int(options.one[0]), options.one[1])))
        return
    print(f"{os.cpu_count()} cores")
    for shape in options.shapes:
        for mount in ("capillary", "grid"):
            command = [sys.executable, __file__, "--one", str(shape), mount]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            cost = json.loads(done.stdout)
            print(
                f"{shape}^3 {mount:9}  {cost['elapsed_s']:6.1f} s  "
                f"{cost['peak_gib']:.2f} GiB"
            )


def time_one(shape: int, mount: str) -> dict[str, float]:
    """Return the seconds and the peak memory of one tomogram."""
    began = time.perf_counter()
    simulate_case(shape, 0, 0.035, mount=mount)
    elapsed_s = time.perf_counter() - began
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"elapsed_s": elapsed_s, "peak_gib": peak_kib / 2**20}


if __name__ == "__main__":
    main()
