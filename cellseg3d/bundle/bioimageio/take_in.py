"""Make a bundle from a package of another program, without running its code."""

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
from cellseg3d.core.atomic import environment_fault, write_text
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.form import check_form
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.models.checkpoint import save_weights
from cellseg3d.models.foreign.network import ForeignNetwork
from cellseg3d.models.foreign.program import Kind, check_program

# The largest difference from the package's test output, which bioimage.io allows too.
TOLERANCE = 1e-3
# The largest halo of windows if the package states none.
HALO = 32
# What the bundle's card is written from.
_FORM = {"name": str, "authors?": [{"name": str}], "cite?": [dict]}
_KINDS: tuple[Kind, ...] = ("torchscript", "onnx")


@dataclass(frozen=True)
class Reading:
    """The content of a package, in the form that bundles have.

    Parameters
    ----------
    block : dict
        The arguments of `ForeignNetwork`.
    program : bytes
        The stored network.
    scale : IntensityScale
        How raw intensities are scaled.
    facts : ModelFacts
        The classes, and the spacing if it is stated.
    window : dict
        The settings of the windows.
    """

    block: dict[str, Any]
    program: bytes
    scale: IntensityScale
    facts: ModelFacts
    window: dict[str, Any]


def import_package(place: Path, out: Path, *, activation: str | None = None) -> Path:
    """Make a bundle from a package of bioimage.io that another program wrote.

    Only weights in TorchScript or ONNX are taken, and only if their programs do nothing
    but compute. No Python code of the package is read. The new bundle must answer the
    package's test input with its test output.

    Parameters
    ----------
    place : Path
        The package: a folder or a zip file.
    out : Path
        The folder of the new bundle.
    activation : {"softmax", "sigmoid"}, optional
        The function that turns the output into probabilities, if the package does not
        state it.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        If `out` exists, or the package holds something that cannot be predicted safely.
    InputError
        If the package is damaged, or the answer differs from its test output.
    """
    if out.exists():
        raise ConfigError(f"{out}: exists already; give another folder")
    if activation not in (None, *translate.ACTIVATIONS):
        message = f"`activation` is {activation!r}; expected softmax or sigmoid"
        raise ConfigError(message)
    package = Package(place)
    description = package.description()
    try:
        reading = read_package(package, description, activation)
        network = built(reading)
        check_answer(package, description, reading, network)
        metadata = _metadata(description, reading)
        card = _card(description, metadata, reading)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        message = (
            f"{place}: its description is incomplete ({type(error).__name__}: "
            f"{error}); check it with `bioimageio validate-format`"
        )
        raise ConfigError(message) from error
    try:
        _write(out, reading, network)
        write_config(out / "configs" / "metadata.json", metadata)
        write_text(out / "docs" / "README.md", card)
    except OSError as error:
        raise environment_fault(error, out) from error
    return out


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


def _window(smallest: list[int], step: list[int], halo: list[int]) -> dict[str, Any]:
    """Return windows of sizes that the network takes."""
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


def _write(out: Path, reading: Reading, network: ForeignNetwork) -> None:
    """Write the config and the weights of the bundle."""
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
    save_weights(out / MODELS / WEIGHTS, network.state_dict(), {"facts": facts})


def _metadata(description: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """Return the metadata of the bundle, with the package that it was made from."""
    check_form(description, _FORM, "its description")
    rdf = json.dumps(description, default=str)
    people = description.get("authors", [])
    return {
        "name": description["name"],
        "version": str(description.get("version") or "0.1.0"),
        "description": str(description.get("description") or ""),
        "authors": "; ".join(each["name"] for each in people),
        "license": str(description.get("license") or "not stated"),
        "imported_from": {
            "format": f"bioimage.io {description['format_version']}",
            "id": str(description.get("id", "not stated")),
            "description_sha256": hashlib.sha256(rdf.encode()).hexdigest(),
            "program_sha256": hashlib.sha256(reading.program).hexdigest(),
        },
    }


def _card(
    description: Mapping[str, Any], metadata: Mapping[str, Any], reading: Reading
) -> str:
    """Return the text about the bundle, with the works to cite."""
    lines = [
        f"# {metadata['name']}",
        metadata["description"],
        f"Imported from a package of {metadata['imported_from']['format']}. Authors: "
        f"{metadata['authors'] or 'not stated'}. Licence: {metadata['license']}.",
        f"Classes: {', '.join(reading.facts.classes)}.",
    ]
    cited = [str(cite.get("text", "")) for cite in description.get("cite", [])]
    return "\n\n".join(filter(None, [*lines, *cited])) + "\n"
