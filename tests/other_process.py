"""Run Python in a process of its own, as another program would."""

import os
import subprocess
import sys


def output_of(*words):
    """What the interpreter prints when it is called with these words and ends well."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
