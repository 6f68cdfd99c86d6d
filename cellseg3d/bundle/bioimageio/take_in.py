"""Read a package of bioimage.io: its description, its weights and its test."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cellseg3d.bundle.bioimageio import translate
from cellseg3d.bundle.foreign.package import Package
from cellseg3d.bundle.foreign.reading import (
    About,
    Reading,
    Wishes,
    built,
    windows_for,
)
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.form import check_form
from cellseg3d.core.volume import Volume
from cellseg3d.models.foreign.network import ForeignNetwork
from cellseg3d.models.foreign.program import Kind, check_program

# The largest difference from the package's test output, which bioimage.io allows too.
TOLERANCE = 1e-3
# Packages use one of these names.
DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml")
# What the bundle's card is written from.
_FORM = {"name": str, "authors?": [{"name": str}], "cite?": [dict]}
_KINDS: tuple[Kind, ...] = ("torchscript", "onnx")


def read_bioimageio(package: Package, wishes: Wishes) -> Reading:
    """Return the content of a package of bioimage.io, after its test.

    Raises
    ------
    ConfigError
        If the package holds something that cannot be predicted safely, or states what
        the user wishes otherwise.
    InputError
        If the package is damaged, or the answer differs from its test output.
    """
    if wishes.intensity is not None or wishes.axes is not None:
        message = (
            f"{package.place}: its description states scaling and axes; leave out "
            "intensity and axes, which are for packages of MONAI"
        )
        raise ConfigError(message)
    description = describe(package)
    reading = read_package(package, description, wishes.activation)
    check_answer(package, description, reading, built(reading))
    return reading


def describe(package: Package) -> dict[str, Any]:
    """Return the description of a package.

    Raises
    ------
    ConfigError
        If the description is of another kind or version.
    """
    name = next(filter(package.has, DESCRIPTIONS))
    values = package.mapping(name)
    _check_version(values, package.place / name)
    return values


def _check_version(values: Mapping[str, Any], where: Path) -> None:
    kind, version = values.get("type", "model"), str(values.get("format_version"))
    if kind != "model":
        message = f"{where}: describes a {kind}; expected a model"
        raise ConfigError(message)
    if not version.startswith("0.5."):
        message = (
            f"{where}: has the format {version}; expected 0.5, to which `bioimageio "
            "update-format SOURCE OUT` brings it"
        )
        raise ConfigError(message)


def read_package(
    package: Package, description: Mapping[str, Any], activation: str | None
) -> Reading:
    """Return the content of a package, in the form that bundles have.

    Raises
    ------
    ConfigError
        If the package holds something that cannot be predicted safely.
    """
    where = str(package.place)
    for what in ("inputs", "outputs"):
        if len(description[what]) != 1:
            names = [tensor["id"] for tensor in description[what]]
            message = f"{where}: has the {what} {names}; only models of one are taken"
            raise ConfigError(message)
    [given], [answer] = description["inputs"], description["outputs"]
    if len(translate.channels_of(given)) != 1:
        message = (
            f"{where}: takes the channels {translate.channels_of(given)}; only models "
            "of one channel are taken"
        )
        raise ConfigError(message)
    kind, program = _program(package, description["weights"])
    smallest, step = translate.sizes_of(given, where)
    axes_out = translate.letters_of(answer, where)
    shapes = {
        "axes_in": translate.letters_of(given, where),
        "axes_out": axes_out,
        "smallest": smallest,
        "step": step,
    }
    translate.check_same_grid(given, answer, where)
    scale, before = translate.scaling_of(given, where)
    after = translate.steps_after(answer, where)
    if activation is not None:
        after.append([activation])
        answers = activation
    else:
        output = package.array(answer["test_tensor"], "the test output")
        answers = translate.answers_of(output, axes_out, where)
    names = translate.channels_of(answer)
    block = {
        "kind": kind,
        "size": len(program),
        "shapes": shapes,
        "channels": len(names),
        "answers": answers,
        "before": before,
        "after": after,
    }
    classes = tuple(names) if answers == "softmax" else ("background", *names)
    window = windows_for(smallest, step, translate.halo_of(answer))
    facts = ModelFacts(classes, translate.spacing_of(given))
    return Reading(block, program, scale, facts, window, _about(description))


def check_answer(
    package: Package,
    description: Mapping[str, Any],
    reading: Reading,
    network: ForeignNetwork,
) -> None:
    """Refuse a network that does not answer the test input with the test output.

    Raises
    ------
    InputError
        If the answer differs. The message says by how much.
    """
    [given], [answer] = description["inputs"], description["outputs"]
    shapes = network.shapes
    image = package.array(given["test_tensor"], "the test input")
    wanted = package.array(answer["test_tensor"], "the test output")
    image_zyx = _one(image, shapes.axes_in)[0]
    wanted_czyx = _one(wanted, shapes.axes_out)
    raw = image_zyx if image_zyx.ndim == 3 else image_zyx[None]
    offset, factor = reading.scale.measure(Volume(raw))
    scaled = torch.from_numpy(reading.scale.apply(image_zyx, offset, factor))
    with torch.inference_mode():
        found_czyx = network.answer(scaled[None, None])[0].numpy()
    # The test output lacks the activation that the user adds, so it is applied here.
    if reading.block["after"] and found_czyx.shape == wanted_czyx.shape:
        extra = _added(reading, answer)
        wanted_czyx = _activated(wanted_czyx, extra)
    if found_czyx.shape != wanted_czyx.shape:
        message = (
            f"{package.place}: its answer to its test input has the shape "
            f"{list(found_czyx.shape)}, but its test output has "
            f"{list(wanted_czyx.shape)}"
        )
        raise InputError(f"{message}; ask its author for a corrected package")
    off = float(np.abs(found_czyx - wanted_czyx).max())
    if not off <= TOLERANCE * max(1.0, float(np.abs(wanted_czyx).max())):
        message = (
            f"{package.place}: its answer to its test input differs by {off:.3g} from "
            "its test output, because it was changed or needs a step that it does not "
            "declare; copy it again, or ask its author"
        )
        raise InputError(message)


def _added(reading: Reading, answer: Mapping[str, Any]) -> list[str]:
    """Return the activation that the user added after the declared steps."""
    declared = len(translate.steps_after(answer, ""))
    return [step[0] for step in reading.block["after"][declared:]]


def _activated(values: NDArray[Any], names: list[str]) -> NDArray[Any]:
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    for name in names:
        tensor = tensor.sigmoid() if name == "sigmoid" else tensor.softmax(0)
    return tensor.numpy()


def _one(array: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return the first sample of a batch as (C, z, y, x), or (C, y, x)."""
    if len(axes) != array.ndim:
        message = (
            f"a test array has {array.ndim} axes, but its description says {axes!r}; "
            "copy the package again"
        )
        raise InputError(message)
    if "b" in axes:
        array = np.take(array, 0, axis=axes.index("b"))
        axes = axes.replace("b", "")
    if "c" not in axes:
        array, axes = array[np.newaxis], f"c{axes}"
    order = [axes.index(letter) for letter in "czyx" if letter in axes]
    return array.transpose(order)


def _program(package: Package, weights: Mapping[str, Any]) -> tuple[Kind, bytes]:
    """Return the stored network that can be run without its author's code."""
    for kind in _KINDS:
        block = weights.get(kind)
        if block is not None:
            if block.get("external_data"):
                message = f"{package.place}: its ONNX weights lie in several files"
                raise ConfigError(f"{message}; ask its author for one file")
            program = package.stored(block, f"the {kind} weights")
            check_program(kind, program, str(package.place))
            return kind, program
    message = (
        f"{package.place}: holds {', '.join(weights)} weights, but only torchscript "
        "and onnx run without its author's code; add some with `bioimageio add-weights "
        "SOURCE OUT`"
    )
    raise ConfigError(message)


def _about(description: Mapping[str, Any]) -> About:
    """Return who made a package, and the works to cite."""
    check_form(description, _FORM, "its description")
    rdf = json.dumps(description, default=str)
    people = description.get("authors", [])
    return About(
        name=description["name"],
        version=str(description.get("version") or "0.1.0"),
        description=str(description.get("description") or ""),
        authors="; ".join(each["name"] for each in people),
        license=str(description.get("license") or "not stated"),
        made_as=f"bioimage.io {description['format_version']}",
        identifier=str(description.get("id", "not stated")),
        sha256=hashlib.sha256(rdf.encode()).hexdigest(),
        notes=tuple(str(cite.get("text", "")) for cite in description.get("cite", [])),
    )
