"""Make a bundle of a package that another program wrote, without running its code."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.bioimageio import translate
from cellseg3d.bundle.bioimageio.package import Package
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.shipped import MODELS, WEIGHTS
from cellseg3d.core.atomic import environment_fault
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.models.checkpoint import save_weights
from cellseg3d.models.foreign.network import ForeignNetwork
from cellseg3d.models.foreign.program import Kind, check_program

# The largest difference to the package's own test output, as bioimage.io allows it.
TOLERANCE = 1e-3
# The most that windows read around their core where the package states no halo.
HALO = 32
_KINDS: tuple[Kind, ...] = ("torchscript", "onnx")


@dataclass(frozen=True)
class Reading:
    """What was read of a package, in our words.

    Parameters
    ----------
    block : dict
        Arguments of `ForeignNetwork`.
    program : bytes
        The stored network.
    scale : IntensityScale
    facts : ModelFacts
        Classes and, where it is stated, the spacing.
    window : dict
    """

    block: dict[str, Any]
    program: bytes
    scale: IntensityScale
    facts: ModelFacts
    window: dict[str, Any]


def import_package(place: Path, out: Path, *, activation: str | None = None) -> Path:
    """Make a bundle of a package of bioimage.io that another program wrote.

    Only TorchScript and ONNX weights are taken, whose programs are first searched for
    anything that does not compute. No Python of the package is read. The new bundle
    must answer the package's test input with its test output.

    Parameters
    ----------
    place : Path
        The package: a folder or a zip file.
    out : Path
        Folder of the new bundle.
    activation : {"softmax", "sigmoid"}, optional
        What makes probabilities of the output, where the package does not say it.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        If `out` is there, or the package holds what cannot be predicted safely.
    InputError
        If the package is damaged, or the answer differs from its test output.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; give another folder")
    if activation not in (None, *translate.ACTIVATIONS):
        message = f"activation is {activation!r}; expected softmax or sigmoid"
        raise ConfigError(message)
    package = Package(place)
    description = package.description()
    try:
        reading = read_package(package, description, activation)
        network = built(reading)
        check_answer(package, description, reading, network)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        message = (
            f"{place}: its description is incomplete ({type(error).__name__}: "
            f"{error}); check it with `bioimageio validate-format`"
        )
        raise ConfigError(message) from error
    try:
        _write(out, description, reading, network)
    except OSError as error:
        raise environment_fault(error, out) from error
    return out


def read_package(
    package: Package, description: Mapping[str, Any], activation: str | None
) -> Reading:
    """Return what a package says, in our words.

    Raises
    ------
    ConfigError
        If it says something that cannot be predicted safely.
    """
    where = str(package.place)
    for what in ("inputs", "outputs"):
        if len(description[what]) != 1:
            names = [tensor["id"] for tensor in description[what]]
            message = f"{where}: has the {what} {names}; models of one can be predicted"
            raise ConfigError(message)
    [given], [answer] = description["inputs"], description["outputs"]
    if len(translate.channels_of(given)) != 1:
        message = (
            f"{where}: takes the channels {translate.channels_of(given)}; models of "
            "one channel can be predicted"
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
    window = _window(smallest, step, translate.halo_of(answer))
    facts = ModelFacts(classes, translate.spacing_of(given))
    return Reading(block, program, scale, facts, window)


def built(reading: Reading) -> ForeignNetwork:
    """Return the network of a package, with its program."""
    network = ForeignNetwork(**reading.block)
    network.program = torch.frombuffer(bytearray(reading.program), dtype=torch.uint8)
    return network.eval()


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
        If it answers something else. The message says how far off.
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
    # The test output stands before what the user adds.
    if reading.block["after"] and found_czyx.shape == wanted_czyx.shape:
        extra = _added(reading, answer)
        wanted_czyx = _activated(wanted_czyx, extra)
    if found_czyx.shape != wanted_czyx.shape:
        message = (
            f"{package.place}: answers {list(found_czyx.shape)} to its test input; "
            f"its test output has {list(wanted_czyx.shape)}"
        )
        raise InputError(f"{message}; the package contradicts itself")
    off = float(np.abs(found_czyx - wanted_czyx).max())
    if not off <= TOLERANCE * max(1.0, float(np.abs(wanted_czyx).max())):
        message = (
            f"{package.place}: the answer to its own test input is off by {off:.3g}; "
            "it was changed, or needs a step that it does not declare"
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
    """Return the first of a batch as (C, z, y, x), or (C, y, x)."""
    if len(axes) != array.ndim:
        message = f"a test array has {array.ndim} axes; its description says {axes!r}"
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
        f"{package.place}: holds {', '.join(weights)} weights; only torchscript and "
        "onnx run without its author's code: add some with `bioimageio add-weights "
        "SOURCE OUT`"
    )
    raise ConfigError(message)


def _window(smallest: list[int], step: list[int], halo: list[int]) -> dict[str, Any]:
    """Return windows that the network takes; those of a fixed size fill it."""
    halos = [
        stated or (min(HALO, low // 4) if not grows else HALO)
        for low, grows, stated in zip(smallest, step, halo, strict=True)
    ]
    if all(step):
        return {"halo": halos}
    cores = [
        low - 2 * edge if not grows else 512
        for low, grows, edge in zip(smallest, step, halos, strict=True)
    ]
    return {"core": cores, "halo": halos}


def _write(
    out: Path,
    description: Mapping[str, Any],
    reading: Reading,
    network: ForeignNetwork,
) -> None:
    """Write the bundle: what `load_model` reads, and where it comes from."""
    for part in ("configs", "docs", MODELS):
        (out / part).mkdir(parents=True)
    dims = network.spatial_dims
    facts = reading.facts.as_dict()
    target = f"{ForeignNetwork.__module__}.{ForeignNetwork.__name__}"
    scale = f"{IntensityScale.__module__}.{IntensityScale.__name__}"
    config = {
        "spec": {
            "spatial_dims": dims,
            "patch_shape": [max(low, 64) for low in network.shapes.smallest],
        },
        "window": reading.window,
        "intensity": {"_target_": scale, **asdict(reading.scale)},
        "facts": facts,
        "network_def": {"_target_": target, **reading.block},
    }
    write_config(out / "configs" / "inference.json", config)
    name = str(description["name"])
    rdf = json.dumps(description, default=str, sort_keys=True)
    described = f"bioimage.io {description['format_version']}"
    authors = "; ".join(str(each["name"]) for each in description.get("authors", []))
    about, licence = str(description.get("description", "")), description.get("license")
    metadata = {
        "name": name,
        "version": str(description.get("version") or "0.1.0"),
        "description": about,
        "authors": authors,
        "license": str(licence or "not stated"),
        "imported_from": {
            "format": described,
            "id": str(description.get("id", "not stated")),
            "description_sha256": hashlib.sha256(rdf.encode()).hexdigest(),
            "program_sha256": hashlib.sha256(reading.program).hexdigest(),
        },
    }
    write_config(out / "configs" / "metadata.json", metadata)
    lines = [
        f"# {name}",
        about,
        f"Imported from a package of {described}. Authors: {authors or 'not stated'}. "
        f"Licence: {licence or 'not stated'}.",
        f"Classes: {', '.join(reading.facts.classes)}.",
    ]
    cited = [str(cite.get("text", "")) for cite in description.get("cite", [])]
    text = "\n\n".join(filter(None, [*lines, *cited])) + "\n"
    (out / "docs" / "README.md").write_text(text, encoding="utf-8")
    save_weights(out / MODELS / WEIGHTS, network.state_dict(), {"facts": facts})
