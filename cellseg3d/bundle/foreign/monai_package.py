"""Read a package of MONAI's model zoo: its TorchScript weights and its metadata."""

import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from cellseg3d.bundle.foreign.package import Package
from cellseg3d.bundle.foreign.reading import (
    About,
    Reading,
    Wishes,
    built,
    windows_for,
)
from cellseg3d.bundle.foreign.scaling import named_scalings, parse_scaling
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.models.foreign.program import check_program

logger = logging.getLogger(__name__)
METADATA = "configs/metadata.json"
PROGRAM = "models/model.ts"
_ASSUMED = "percentile:0.5:99.5"
_BACKGROUND = ("background", "bg")
# A side may be a number, "*", "16*n" or "2**p*n".
_SIDE = re.compile(r"(?:(\d+)(?:\*\*p)?\*)?n|\*")
# About how long the sides of the noise are on which the network is tried.
_TRIED = 32
_MOST_TRIED = 2**26
_NEARLY = 1e-3
# Leaves raw intensities unchanged.
_RAW = IntensityScale("range", -1.0, 1.0, clip=False)


def read_monai(package: Package, wishes: Wishes) -> Reading:
    """Return the content of a package of MONAI, in the form that bundles have.

    The metadata state channels, sides and classes. They do not state how raw
    intensities are scaled; what is assumed is logged and written on the bundle's card.

    Raises
    ------
    ConfigError
        If the package has no TorchScript weights, or holds something that cannot be
        predicted safely.
    InputError
        If the network does not answer as the metadata say.
    """
    where = str(package.place)
    metadata = package.mapping(METADATA)
    format_ = metadata["network_data_format"]
    given = _single(format_["inputs"], "inputs", where)
    answer = _single(format_["outputs"], "outputs", where)
    if int(given["num_channels"]) != 1:
        named = ", ".join(map(str, dict(given.get("channel_def") or {}).values()))
        message = (
            f"{where}: takes {given['num_channels']} channels ({named or 'no names'}); "
            "only models of one channel are taken"
        )
        raise ConfigError(message)
    if not package.has(PROGRAM):
        message = (
            f"{where}: has no {PROGRAM}, and other weights need its author's code; if "
            "you trust the author, write it with `python -m monai.bundle ckpt_export`"
        )
        raise ConfigError(message)
    program = package.read(PROGRAM)
    check_program("torchscript", program, where)
    shapes = _shapes(given["spatial_shape"], wishes.axes, where)
    names = _classes(answer, where)
    answers, after = _activation(names, wishes.activation, where)
    scale, before, notes = _scaling(package, given, wishes, where)
    if wishes.axes is None:
        notes.append(
            "The order of the axes is not stated. It is assumed to be that of the "
            "files, z before y before x; networks that MONAI trained on NIfTI files "
            "usually take x before y before z, for which `axes` is xyz."
        )
    for note in notes:
        logger.warning("%s: %s", where, note)
    block = {
        "kind": "torchscript",
        "size": len(program),
        "shapes": shapes,
        "channels": len(names),
        "answers": answers,
        "before": before,
        "after": after,
    }
    classes = ("background", *names) if answers == "sigmoid" else tuple(names)
    window = windows_for(shapes["smallest"], shapes["step"], [0] * len(shapes["step"]))
    about = _about(metadata, notes)
    reading = Reading(block, program, scale, ModelFacts(classes), window, about)
    return _tried(reading, where)


def _single(tensors: Mapping[str, Any], what: str, where: str) -> Mapping[str, Any]:
    if len(tensors) != 1:
        message = (
            f"{where}: has the {what} {list(tensors)}; only models of one are taken"
        )
        raise ConfigError(message)
    [tensor] = tensors.values()
    return dict(tensor)


def _shapes(sides: Sequence[Any], axes: str | None, where: str) -> dict[str, Any]:
    """Return the arguments of `Shapes` for declared sides, in the order of `axes`."""
    space = "zyx"[-len(sides) :]
    order = axes or space
    if len(sides) not in (2, 3) or sorted(order) != sorted(space):
        message = (
            f"{where}: has the sides {list(sides)} along the axes {order!r}; expected "
            "two or three sides, and `axes` such as xyz or zyx"
        )
        raise ConfigError(message)
    found = dict(zip(order, [_side(side, where) for side in sides], strict=True))
    return {
        "axes_in": f"bc{order}",
        "axes_out": f"bc{order}",
        "smallest": [found[axis][0] for axis in space],
        "step": [found[axis][1] for axis in space],
    }


def _side(side: Any, where: str) -> tuple[int, int]:  # noqa: ANN401
    """Return the smallest length of a side, and by how much it may grow."""
    if isinstance(side, int) and side > 0:
        return side, 0
    found = _SIDE.fullmatch(str(side).replace(" ", ""))
    if found is None or found[1] == "0":
        message = (
            f"{where}: a side of its input is {side!r}; expected a number, '*', or a "
            "multiple such as '16*n'"
        )
        raise ConfigError(message)
    step = int(found[1] or 1)
    return step, step


def _classes(answer: Mapping[str, Any], where: str) -> list[str]:
    """Return the names of the output's channels, in their order."""
    count = int(answer["num_channels"])
    said = {str(key): str(name) for key, name in answer["channel_def"].items()}
    if set(said) != set(map(str, range(count))):
        message = (
            f"{where}: names the channels {', '.join(said)} of its output, but it has "
            f"{count}; correct channel_def in {METADATA}"
        )
        raise ConfigError(message)
    return [said[str(number)] for number in range(count)]


def _activation(
    names: Sequence[str], said: str | None, where: str
) -> tuple[str, list[list[Any]]]:
    """Return what the output is, and the steps that follow it."""
    if said is not None:
        return said, [[said]]
    if len(names) > 1 and names[0].strip().lower() in _BACKGROUND:
        return "logits", []
    message = (
        f"{where}: its output has the channels {', '.join(names)}, the first of which "
        "is not the background, and nothing says how they become probabilities; pass "
        "activation softmax (classes) or sigmoid (each channel by itself)"
    )
    raise ConfigError(message)


def _scaling(
    package: Package, given: Mapping[str, Any], wishes: Wishes, where: str
) -> tuple[IntensityScale, list[list[Any]], list[str]]:
    """Return the scale, the steps that follow it, and what was assumed."""
    scale = parse_scaling(wishes.intensity or _ASSUMED)
    if scale is None:
        return _RAW, [], []
    if scale.mode == "zscore":
        return scale, [], []
    ends = given.get("value_range") or []
    low, high = map(float, ends) if len(ends) == 2 else (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        message = (
            f"{where}: its input has the range {ends}, so nothing says to what raw "
            "intensities are scaled; pass intensity zscore or none, or correct "
            f"value_range in {METADATA}"
        )
        raise ConfigError(message)
    notes = []
    if wishes.intensity is None:
        named = "; ".join(named_scalings(package))
        notes.append(
            "How raw intensities are scaled is not stated. It is assumed that the "
            f"percentiles .5 and 99.5 of a volume become {low:g} and {high:g}. "
            + (f"The package's config names {named}. " if named else "")
            + "If this is wrong, import the package again and give `intensity`."
        )
    # A bundle scales to -1 and 1, and the package to the range that it declares.
    return scale, [["linear", (high - low) / 2, (high + low) / 2]], notes


def _about(metadata: Mapping[str, Any], notes: Sequence[str]) -> About:
    text = json.dumps(metadata, default=str)
    cited = [str(work) for work in metadata.get("references") or []]
    return About(
        name=str(metadata["name"]),
        version=str(metadata.get("version") or "0.1.0"),
        description=str(metadata.get("description") or metadata.get("task") or ""),
        authors=str(metadata.get("authors") or ""),
        license=str(metadata.get("license") or "not stated"),
        made_as=f"MONAI {metadata.get('monai_version', '(no version)')}",
        identifier=str(metadata["name"]),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        notes=(*notes, *cited),
    )


def _tried(reading: Reading, where: str) -> Reading:
    """Return a reading after a trial on noise, which shows what the network answers.

    Raises
    ------
    InputError
        If the answer is not as declared.
    """
    network = built(reading)
    shapes = network.shapes
    sides = [
        low if not step else max(low, -(-_TRIED // step) * step)
        for low, step in zip(shapes.smallest, shapes.step, strict=True)
    ]
    if math.prod(sides) > _MOST_TRIED:
        message = (
            f"{where}: its smallest input has the sides {sides}, which are too many "
            f"voxels for one window; correct spatial_shape in {METADATA}"
        )
        raise ConfigError(message)
    noise = torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            found = network.answer(noise * 2 - 1)
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[-1]
        message = (
            f"{where}: its network does not take an input of {sides}, which {METADATA} "
            f"declares ({cause}); correct spatial_shape, or ask its author"
        )
        raise InputError(message) from error
    wanted = [1, reading.block["channels"], *sides]
    if list(found.shape) != wanted or not bool(found.isfinite().all()):
        message = (
            f"{where}: its network answers {list(found.shape)} to an input of {sides}; "
            f"expected finite numbers of the shape {wanted}, as {METADATA} declares"
        )
        raise InputError(message)
    sums = found.sum(1)
    sure = bool((found >= -_NEARLY).all()) and torch.allclose(
        sums, torch.ones_like(sums), atol=_NEARLY
    )
    if reading.block["answers"] == "logits" and sure:
        return replace(reading, block={**reading.block, "answers": "softmax"})
    return reading
