"""Clocks for a time budget: seconds of real time, or seconds of processor time."""

import time
from collections.abc import Callable
from typing import Literal

Clock = Literal["wall", "cpu"]
CLOCKS: dict[Clock, Callable[[], float]] = {
    "wall": time.monotonic,
    "cpu": time.process_time,
}
