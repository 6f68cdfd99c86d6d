"""Run a command and write its cost; this script uses the standard library only.

    python weigh.py COST.json COMMAND ...

A process inherits the peak memory of its parent. This parent is small, so the measured
peak is the command's own and not that of a program that has loaded torch.
"""

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

# ru_maxrss is in KiB on Linux, in bytes on macOS.
RSS_PER_GIB = 2**30 if sys.platform == "darwin" else 2**20


def end_with(parent: int, seconds: float = 0.5) -> None:
    """Kill this process group when the process that started it is gone.

    A benchmark that is killed cannot end its command itself.
    """
    while os.getppid() == parent:
        time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.killpg(os.getpgrp(), signal.SIGKILL)


def main(place: str, command: list[str]) -> int:
    """Run the command, write its cost as JSON, and return its exit code."""
    if os.getpgrp() == os.getpid():  # started as a group of its own
        watch = threading.Thread(target=end_with, args=(os.getppid(),), daemon=True)
        watch.start()
    begun = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    cost = {
        "elapsed_s": time.monotonic() - begun,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_gib": usage.ru_maxrss / RSS_PER_GIB,
    }
    Path(place).write_text(json.dumps(cost), encoding="utf-8")
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
