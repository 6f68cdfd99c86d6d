"""The content of a package of another program, and the bundle that is made of it."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.shipped import MODELS, WEIGHTS
from cellseg3d.core.atomic import write_text
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.models.checkpoint import save_weights
from cellseg3d.models.foreign.network import ForeignNetwork

# The largest halo of windows if the package states none.
HALO = 32


@dataclass(frozen=True)
class Wishes:
    """What the user says of a package that does not say it itself.

    Parameters
    ----------
    activation : {"softmax", "sigmoid"}, optional
        The function that turns the output into probabilities.
    intensity : str, optional
        How raw intensities are scaled: ``percentile:LOW:HIGH``, ``range:LOW:HIGH``,
        ``zscore`` or ``none``.
    axes : str, optional
        The order of the input's axes of space, such as ``"xyz"``.
    """

    activation: str | None = None
    intensity: str | None = None
    axes: str | None = None


@dataclass(frozen=True)
class About:
    """Who made a package, and what the new bundle says of it.

    Parameters
    ----------
    name, version, description, authors, license : str
    made_as : str
        The format of the package, such as "bioimage.io 0.5.3".
    identifier : str
        The name of the package in its zoo.
    sha256 : str
        Hash of the package's description.
    notes : tuple of str
        Sentences for the bundle's card: works to cite, and what was assumed.
    """

    name: str
    version: str
    description: str
    authors: str
    license: str
    made_as: str
    identifier: str
    sha256: str
    notes: tuple[str, ...] = ()


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
    about : About
        Who made the package.
    """

    block: dict[str, Any]
    program: bytes
    scale: IntensityScale
    facts: ModelFacts
    window: dict[str, Any]
    about: About


def built(reading: Reading) -> ForeignNetwork:
    """Return the network of a package, with its program."""
    network = ForeignNetwork(**reading.block)
    network.program = torch.frombuffer(bytearray(reading.program), dtype=torch.uint8)
    return network.eval()


def windows_for(
    smallest: list[int], step: list[int], halo: list[int]
) -> dict[str, Any]:
    """Return windows of sizes that a network takes.

    Parameters
    ----------
    smallest, step : list of int
        It takes sides of ``smallest + n * step``, by z, y, x.
    halo : list of int
        The halo that the package states; 0 along axes where it states none.
    """
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


def write_reading(out: Path, reading: Reading, network: ForeignNetwork) -> None:
    """Write the configs, the weights and the card of the bundle."""
    for part in ("configs", "docs", MODELS):
        (out / part).mkdir(parents=True)
    facts = reading.facts.as_dict()
    target = f"{ForeignNetwork.__module__}.{ForeignNetwork.__name__}"
    scale = f"{IntensityScale.__module__}.{IntensityScale.__name__}"
    config = {
        "spec": {
            "spatial_dims": network.spatial_dims,
            "patch_shape": [max(low, 64) for low in network.shapes.smallest],
        },
        "window": reading.window,
        "intensity": {"_target_": scale, **asdict(reading.scale)},
        "facts": facts,
        "network_def": {"_target_": target, **reading.block},
    }
    write_config(out / "configs" / "inference.json", config)
    save_weights(out / MODELS / WEIGHTS, network.state_dict(), {"facts": facts})
    write_config(out / "configs" / "metadata.json", _metadata(reading))
    write_text(out / "docs" / "README.md", _card(reading))


def _metadata(reading: Reading) -> dict[str, Any]:
    """Return the metadata of the bundle, with the package that it was made from."""
    about = reading.about
    return {
        "name": about.name,
        "version": about.version,
        "description": about.description,
        "authors": about.authors,
        "license": about.license,
        "imported_from": {
            "format": about.made_as,
            "id": about.identifier,
            "description_sha256": about.sha256,
            "program_sha256": hashlib.sha256(reading.program).hexdigest(),
        },
    }


def _card(reading: Reading) -> str:
    """Return the text about the bundle, with the works to cite."""
    about = reading.about
    lines = [
        f"# {about.name}",
        about.description,
        f"Imported from a package of {about.made_as}. Authors: "
        f"{about.authors or 'not stated'}. Licence: {about.license}.",
        f"Classes: {', '.join(reading.facts.classes)}.",
        *about.notes,
    ]
    return "\n\n".join(filter(None, lines)) + "\n"
