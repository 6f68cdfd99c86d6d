"""Which device and which number format a network runs in, and why."""

import functools
import logging
import os
import time
from dataclasses import dataclass
from typing import Literal

import torch

from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.core.processes import processor_name
from cellseg3d.core.user_cache import keep, kept
from cellseg3d.models.apple_gpu import require_right_convolutions

_log = logging.getLogger(__name__)
PRECISIONS = ("auto", "float32", "float16", "bfloat16", "int8")
ACCELERATIONS = ("auto", "off")
DEVICES = ("auto", "cpu", "cuda", "mps")
# The convolution by which number formats are compared: its channels, the side of its
# cube of voxels, and how often each format runs. It takes about a tenth of a second.
_CHANNELS, _SIDE, _TURNS = 32, 16, 6
# The file in the user's cache that keeps the results.
_GAINS = "bfloat16_gain"


@dataclass(frozen=True)
class Hardware:
    """Where a network runs, in which format, and the reason for it."""

    device: torch.device
    precision: Literal["float32", "float16", "bfloat16", "int8"]
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The type of the network's weights and of its input."""
        if self.precision == "float16":
            return torch.float16
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def home(self) -> torch.device:
        """Where answers are summed up: the GPU itself with CUDA, elsewhere the CPU."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    def describe(self) -> dict[str, str]:
        """Return the device, the number format and the reason, for the provenance."""
        return {
            "device": str(self.device),
            "precision": self.precision,
            "precision_reason": self.reason,
        }


def check_acceleration(word: str) -> None:
    """Refuse a word for the acceleration that is not known.

    Raises
    ------
    ConfigError
        With the words that are known.
    """
    if word not in ACCELERATIONS:
        expected = " or ".join(ACCELERATIONS)
        raise ConfigError(f"acceleration {word!r}; expected {expected}")


def choose_hardware(device: str = "auto", precision: str = "auto") -> Hardware:
    """Return device and number format; ``"auto"`` takes the fastest that is exact.

    Parameters
    ----------
    device : str
        See `find_device`.
    precision : {"auto", "float32", "float16", "bfloat16", "int8"}
        ``"auto"`` takes float16 on a CUDA GPU, which rounds eight times as finely as
        bfloat16 and is as fast, and bfloat16 where the processor was measured to be
        faster in it; an Apple GPU computes in float32. int8 runs on the CPU alone, and
        float16 on a CUDA GPU alone.

    Raises
    ------
    ConfigError
        If a word is unknown.
    EnvironmentFault
        If a GPU is asked for and there is none, or a number format that the device
        cannot compute in.
    """
    if precision not in PRECISIONS:
        message = f"precision {precision!r}; expected one of {', '.join(PRECISIONS)}"
        raise ConfigError(message)
    chosen = find_device(device)
    if precision == "int8" and device == "auto":
        chosen = torch.device("cpu")
    if precision == "int8" and chosen.type != "cpu":
        message = "precision 'int8' runs on the CPU alone; take device 'cpu'"
        raise EnvironmentFault(message)
    if precision == "float16" and chosen.type != "cuda":
        message = (
            "precision 'float16' runs on a CUDA GPU alone; take precision 'auto', "
            f"which picks what is fast and safe on this machine's {chosen.type}"
        )
        raise EnvironmentFault(message)
    if precision in ("float32", "int8"):
        name: Literal["float32", "int8"] = (
            "float32" if precision == "float32" else "int8"
        )
        return Hardware(chosen, name, "as asked")
    if precision == "float16":
        return Hardware(chosen, "float16", "as asked")
    if precision == "auto" and chosen.type == "cuda":
        return Hardware(chosen, "float16", "the GPU multiplies float16")
    fast = has_fast_bfloat16(chosen)
    if precision == "bfloat16":
        require_bfloat16(chosen)
        note = "as asked" if fast else "as asked, though emulated here"
        return Hardware(chosen, "bfloat16", note)
    if fast:
        return Hardware(chosen, "bfloat16", "the processor is faster in bfloat16")
    return Hardware(chosen, "float32", _why_float32(chosen))


def _why_float32(device: torch.device) -> str:
    """Return in words why bfloat16 is not taken."""
    if not multiplies_bfloat16(device):
        return "the processor has no bfloat16 arithmetic"
    return "the processor is slower in bfloat16"


def find_device(name: str = "auto") -> torch.device:
    """Return the device that a name asks for, which this machine has.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda", "mps"} or a name such as ``"cuda:1"``
        ``"auto"`` takes a CUDA device when there is one, else the CPU. ``"mps"`` is the
        GPU of an Apple computer, which is taken only when it is asked for.

    Raises
    ------
    ConfigError
        If the name is unknown.
    EnvironmentFault
        If this machine has no such device, or one that computes wrongly.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        known = ", ".join(DEVICES)
        message = f"device {name!r}; expected one of {known}, or one such as cuda:1"
        raise ConfigError(message)
    if device.type == "cuda":
        _require_cuda(name, device)
    if device.type == "mps":
        _require_mps(name)
    return device


def _require_cuda(name: str, device: torch.device) -> None:
    if not torch.cuda.is_available():
        message = f"device {name!r}: torch finds no CUDA GPU here; take 'auto' or 'cpu'"
        raise EnvironmentFault(message)
    last = torch.cuda.device_count() - 1
    if (device.index or 0) > last:
        message = f"device {name!r}: the last CUDA GPU here is 'cuda:{last}'"
        raise EnvironmentFault(message)


def _require_mps(name: str) -> None:
    if not torch.backends.mps.is_available():
        message = (
            f"device {name!r}: torch finds no Apple GPU here; take 'auto' or 'cpu'"
        )
        raise EnvironmentFault(message)
    require_right_convolutions(torch.device("mps"))


def can_bfloat16(device: torch.device) -> bool:
    """Whether a device runs convolutions in bfloat16 at a useful speed.

    On a CPU it is oneDNN that is asked, as it is oneDNN that computes: it looks at the
    processor and at the limits that its environment variables set. Where it cannot,
    torch's own loops take about a hundred times as long as float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    answer = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return device.type == "cpu" and answer is not None and bool(answer())


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch names no public question; this is the one its own tests ask.
    answer = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return can_bfloat16(device) and answer is not None and bool(answer())


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device is faster in bfloat16 than in float32.

    A GPU that multiplies bfloat16 is. A processor is measured, because some that have
    the instructions take twice as long with them. What was measured is kept for the
    user, so that every run on a machine computes alike.
    """
    if not multiplies_bfloat16(device):
        return False
    return device.type == "cuda" or _kept_gain() > 1


@functools.cache
def _kept_gain() -> float:
    """Return the gain that was measured on this processor before, or measure it."""
    known = kept(_GAINS).get(_processor())
    if isinstance(known, int | float) and known > 0:
        return float(known)
    gain = bfloat16_gain()
    keep(_GAINS, _processor(), gain)
    return gain


def _processor() -> str:
    """Return what decides the speed of number formats: processor, library, limits."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return f"{processor_name()}, torch {torch.__version__}{limit and f', {limit}'}"


def bfloat16_gain() -> float:
    """Measure how many times as fast this processor convolves in bfloat16.

    One convolution of two volumes runs a few times in float32 and in bfloat16, in
    turns; the least processor time of each counts. Two, because torch
    runs single small volumes in float32 by slow loops, which prediction avoids.
    """
    layout, pairs = torch.channels_last_3d, []
    for dtype in (torch.float32, torch.bfloat16):
        layer = torch.nn.Conv3d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False)
        image = torch.zeros(2, _CHANNELS, *(_SIDE,) * 3, dtype=dtype)
        layer = layer.to(dtype).to(memory_format=layout)  # type: ignore[call-overload]
        pairs.append((layer, image.to(memory_format=layout)))
    least = [float("inf"), float("inf")]
    with torch.inference_mode():
        for _ in range(_TURNS):
            for index, (convolve, given) in enumerate(pairs):
                begun = time.process_time()
                convolve(given)
                least[index] = min(least[index], time.process_time() - begun)
    gain = least[0] / least[1]
    _log.info("convolutions in bfloat16 run %.2f times as fast as in float32", gain)
    return gain


def require_bfloat16(device: torch.device) -> None:
    """Refuse bfloat16 on a device that cannot compute in it.

    Raises
    ------
    EnvironmentFault
        With the number formats that the device can compute in.
    """
    if not can_bfloat16(device):
        message = (
            f"precision 'bfloat16': this machine's {device.type} cannot compute in it; "
            "take precision 'float32', or 'auto', which picks what is fast and safe"
        )
        raise EnvironmentFault(message)


@functools.cache
def possible_precision(device: str, precision: str) -> str:
    """Return a number format that a device can compute in, and warn if it is another.

    For configs, which are written on one machine and run on others: float32 is what
    every other format is measured against, so labels are at least as exact.
    """
    place = torch.device(device)
    if precision not in ("bfloat16", "float16"):
        return precision
    possible = place.type == "cuda" if precision == "float16" else can_bfloat16(place)
    if possible:
        return precision
    _log.warning(
        "precision '%s': this machine's %s cannot compute in it; float32 is taken "
        "instead",
        precision,
        place.type,
    )
    return "float32"
