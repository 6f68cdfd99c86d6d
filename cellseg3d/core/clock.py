"""What a budget of seconds counts: those that pass, or those the processor works."""

import time
from collections.abc import Callable
from typing import Literal

Clock = Literal["wall", "cpu"]
CLOCKS: dict[Clock, Callable[[], float]] = {
    "wall": time.monotonic,
    "cpu": time.process_time,
}
