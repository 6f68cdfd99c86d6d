"""Prepare a network for a volume: bfloat16 where a trial shows that labels stay."""

import contextlib
import copy
import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cellseg3d.acceleration.folding import fold
from cellseg3d.acceleration.hardware import choose_hardware
from cellseg3d.acceleration.prepare import Engine, prepare
from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import InputError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.models.geometry import geometry_of
from cellseg3d.prediction.field import Field
from cellseg3d.prediction.fusion import labels_of
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.slices import stack_slices

_log = logging.getLogger(__name__)
# The part of the labels that the default may change, against float32.
ALLOWED = 1e-4
# A trial is a sample: it must find this many times less.
MARGIN = 1.5
SIDE_3D = 64
SIDE_2D = 256
# Where windows are tried: the middle, and four corners of the inner half that face
# each other across every side.
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
    contrasts: bool = False,
) -> Engine:
    """Return an engine for a network on one volume.

    Where the number format is left to us and bfloat16 is fast, a few windows of the
    volume run in both formats; if more labels change than are allowed, it is float32.
    int8 is calibrated with the same windows.

    Parameters
    ----------
    field : Field
        What the network sees of the volume.
    network : Module
        Float32, in evaluation mode; left as it is.
    spec : InputSpec
    axes : str
        Axes across which slices are cut; unused in 3D.
    options : SegmentOptions, optional
        Of these, device, precision and engine are looked at.
    contrasts : bool
        As for `engine.prepare`.
    """
    wanted = options or SegmentOptions()
    device, precision = wanted.device, wanted.precision
    if precision == "int8":
        windows = trial_windows(field, network, spec, axes)
        return prepare(network, device, precision, wanted.engine, windows)
    fast = choose_hardware(device, precision).precision != "float32"
    if precision != "auto" or not fast:
        return prepare(network, device, precision, wanted.engine, contrasts=contrasts)
    folded = fold(network)
    twin = copy.deepcopy(folded)
    engine = prepare(
        network, device, precision, wanted.engine, contrasts=contrasts, folded=twin
    )
    exact = prepare(network, device, "float32", folded=folded)
    windows = trial_windows(field, network, spec, axes)
    changed = changed_labels(engine, exact, windows)
    kept = changed <= ALLOWED / MARGIN
    told = f"a trial changed {changed:.1e} of the labels"
    if kept:
        reason = f"{engine.hardware.reason}; {told}"
    else:
        engine = exact
        reason = f"with bfloat16 {told}, {ALLOWED / MARGIN:.1e} are allowed"
    _log.info("%s: %s", engine.hardware.precision, reason)
    return replace(engine, hardware=replace(engine.hardware, reason=reason))


def changed_labels(one: Engine, other: Engine, windows: Sequence[Tensor]) -> float:
    """Return the part of the labels in which two engines differ."""
    changed = total = 0
    for window in windows:
        labels = [labels_of(engine(window)[0].float().cpu()) for engine in (one, other)]
        changed += int((labels[0] != labels[1]).sum())
        total += labels[0].numel()
    return changed / max(1, total)


def trial_windows(
    field: Field, network: nn.Module, spec: InputSpec, axes: str
) -> list[Tensor]:
    """Return a few windows of a volume, spread over it, each (1, C, ...), float32."""
    deep = spec.spatial_dims == 3
    stride = geometry_of(network).stride
    most = SIDE_3D if deep else SIDE_2D
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
        for place in itertools.islice(PLACES, count):
            # A region that is broken stops the prediction where it comes to it.
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
    """Return the window around a place of the volume, given in parts of its sides."""
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
