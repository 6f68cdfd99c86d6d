"""Prepare a network for a volume, in half precision if its labels stay in a trial."""

import contextlib
import copy
import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from cellseg3d.acceleration.folding import fold
from cellseg3d.acceleration.prepare import prepare
from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import InputError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.models.foreign.network import ForeignNetwork
from cellseg3d.models.geometry import geometry_of
from cellseg3d.models.hardware import choose_hardware
from cellseg3d.models.prepared import (
    PLANES,
    PlainNetwork,
    PreparedNetwork,
    stack_slices,
)
from cellseg3d.prediction.field import Field
from cellseg3d.prediction.fusion import labels_of
from cellseg3d.prediction.options import SegmentOptions

_log = logging.getLogger(__name__)
# The share of labels that bfloat16 may change against float32.
ALLOWED = 1e-4
# A trial sees a sample of the volume, so it must find this many times less.
MARGIN = 1.5
SIDE_3D = 64
SIDE_2D = 256
# Where the windows of a trial lie, as shares of the volume's sides: in the middle, and
# in four corners of its inner half, no two of which share an edge.
PLACES = (
    (0.5, 0.5, 0.5),
    (0.25, 0.25, 0.25),
    (0.25, 0.75, 0.75),
    (0.75, 0.25, 0.75),
    (0.75, 0.75, 0.25),
)


def prepare_for(
    field: Field,
    network: nn.Module,
    spec: InputSpec,
    axes: str,
    options: SegmentOptions | None = None,
    *,
    difference: bool = False,
) -> PreparedNetwork:
    """Return a network prepared for one volume.

    If the precision is ``"auto"`` and the device computes fast in half precision, a
    few windows of the volume run in both half precision and float32. If more than
    ``ALLOWED / MARGIN`` of their labels change, float32 is taken. int8 is calibrated
    with the same windows.

    Parameters
    ----------
    field : Field
        The scaled intensities of the volume.
    network : Module
        A network in float32 and evaluation mode; it is not changed.
    spec : InputSpec
    axes : str
        Axes across which slices are cut. A 3D network ignores them.
    options : SegmentOptions, optional
        Only device, precision, backend and acceleration are read.
    difference : bool
        As for `acceleration.prepare.prepare`.
    """
    wanted = options or SegmentOptions()
    if isinstance(network, ForeignNetwork) and wanted.precision == "auto":
        # It computes in float32 whatever it is given; its input need not be rounded.
        wanted = replace(wanted, precision="float32")
    if wanted.acceleration == "off":
        exact = "float32" if wanted.precision == "auto" else wanted.precision
        return PlainNetwork(network, spec, choose_hardware(wanted.device, exact))
    device = wanted.device
    if wanted.backend == "openvino" and device == "auto":
        device = "cpu"
    hardware = choose_hardware(device, wanted.precision)
    made = partial(
        prepare, network, spec, backend=wanted.backend, difference=difference
    )
    if hardware.precision == "int8":
        return made(hardware, windows=trial_windows(field, network, spec, axes))
    if wanted.precision != "auto" or hardware.precision == "float32":
        return made(hardware)
    folded = fold(network)
    fast = made(hardware, folded=copy.deepcopy(folded))
    slow = choose_hardware(device, "float32")
    exact_one = prepare(network, spec, slow, folded=folded)
    changed = changed_labels(
        fast, exact_one, trial_windows(field, network, spec, axes), spec
    )
    told = f"in a trial {hardware.precision} changed {changed:.1e} of the labels"
    if changed <= ALLOWED / MARGIN:
        chosen, reason = fast, f"{hardware.reason}; {told}"
    else:
        chosen = exact_one
        reason = f"{told}, and at most {ALLOWED / MARGIN:.1e} may change"
    _log.info("%s: %s", chosen.hardware.precision, reason)
    return replace(chosen, hardware=replace(chosen.hardware, reason=reason))


def changed_labels(
    one: PreparedNetwork,
    other: PreparedNetwork,
    windows: Sequence[Tensor],
    spec: InputSpec,
) -> float:
    """Return the share of the voxels of some windows to which two networks differ.

    Parameters
    ----------
    one, other : PreparedNetwork
    windows : sequence of tensor
        Windows as `trial_windows` returns them.
    spec : InputSpec
    """
    changed = total = 0
    for window in windows:
        labels = [_labels(network, window, spec) for network in (one, other)]
        changed += int((labels[0] != labels[1]).sum())
        total += labels[0].numel()
    return changed / max(1, total)


def _labels(network: PreparedNetwork, window: Tensor, spec: InputSpec) -> Tensor:
    """Return the labels (z, y, x) of a window, or (1, h, w) of one slice."""
    deep = spec.spatial_dims == 3
    # A stack has the slices of the first channel, then those of the second.
    image_cnhw = window[0]
    if not deep:
        sides = image_cnhw.shape[1:]
        image_cnhw = image_cnhw.reshape(spec.image_channels, -1, *sides)
    count, height, width = image_cnhw.shape[1:]
    kept = slice(0, count) if deep else slice(spec.context, spec.context + 1)
    keep = (kept, slice(0, height), slice(0, width))
    parts = network.logits(
        lambda low, high: image_cnhw[:, low:high], (count, height, width), keep, PLANES
    )
    return torch.cat([labels_of(logits.float().cpu()) for _, logits in parts])


def trial_windows(
    field: Field,
    network: nn.Module,
    spec: InputSpec,
    axes: str,
    places: Sequence[Sequence[float]] = PLACES,
    most: int | None = None,
) -> list[Tensor]:
    """Return a few windows spread over a volume, float32, each (1, C, ...).

    Parameters
    ----------
    field, network, spec, axes
        As for `prepare_for`.
    places : sequence of (float, float, float)
        Where windows lie, as shares of the volume's sides. A small volume has windows
        at the first places only, so that they do not hold every voxel twice.
    most : int, optional
        The side of a window in voxels; 64 in 3D and 256 in 2D by default.
    """
    deep = spec.spatial_dims == 3
    stride = geometry_of(network).stride
    most = most or (SIDE_3D if deep else SIDE_2D)
    letters: Sequence[str | None] = [None] if deep else list(axes)
    found = []
    for axis in letters:
        steps = list(stride)
        if axis is not None:
            steps.insert(axis_index(axis), 1)
        sides = [
            min(-(-most // step) * step, -(-length // step) * step)
            for length, step in zip(field.shape, steps, strict=True)
        ]
        if axis is not None:
            sides[axis_index(axis)] = 1
        count = math.ceil(math.prod(field.shape) / math.prod(sides))
        for place in itertools.islice(places, count):
            # A broken region is left out here; the prediction itself refuses it.
            with contextlib.suppress(InputError):
                found.append(_window(field, sides, place, axis, spec.context))
    return found


def _window(
    field: Field,
    sides: Sequence[int],
    place: Sequence[float],
    axis: str | None,
    context: int,
) -> Tensor:
    """Return the window around a place, which is given as shares of the sides."""
    first = [
        max(0, min(int(part * length - side / 2), length - side))
        for length, side, part in zip(field.shape, sides, place, strict=True)
    ]
    if axis is None:
        image = field.read(Roi.at(zyx(first), zyx(sides)))
        return torch.from_numpy(image[None])
    across = axis_index(axis)
    first[across] -= context
    depth = list(sides)
    depth[across] += 2 * context
    image_czyx = torch.from_numpy(field.read(Roi.at(zyx(first), zyx(depth))))
    return stack_slices(image_czyx.movedim(across + 1, 1), context).contiguous()
