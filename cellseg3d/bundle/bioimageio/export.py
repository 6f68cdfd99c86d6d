"""Write a bundle as a package of bioimage.io that is also a MONAI bundle."""

import hashlib
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from cellseg3d.bundle.bioimageio.description import (
    COVER,
    DOCUMENTATION,
    INPUT,
    OUTPUT,
    RDF,
    TORCHSCRIPT,
    check_describable,
    describe,
)
from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import TrainedModel, load_model
from cellseg3d.core.atomic import environment_fault, make_folder, write_text
from cellseg3d.core.channels import ChannelStack
from cellseg3d.core.colours import colour_labels
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.channels import fit_channels
from cellseg3d.io.output.contact_sheet import CLIPPED, grey
from cellseg3d.models.geometry import Geometry, geometry_of
from cellseg3d.models.prepared import stack_slices
from cellseg3d.simulate.case import simulate_case

# About how long the sides of the test input are, in voxels.
SIDE_2D = 128
SIDE_3D = 64
# The voxel edge, in um, that is used if that of a model is unknown or implausible.
SPACING_UM = 0.05
COVER_SIDE = 256
# The parts of a bundle's folder that are copied. Runs also hold checkpoints.
PARTS = ("configs", "docs", "models", "LICENSE")


def export_bioimageio(
    place: str | Path, out: Path, image: Volume | None = None
) -> Path:
    """Write a bundle or run as a package of bioimage.io.

    The folder also holds the bundle's configs, card and weights, so it is a MONAI
    bundle too. The network is stored as TorchScript, which runs without this package.

    Parameters
    ----------
    place : str or Path
        A bundle or run with weights, or the name of a bundle of the package.
    out : Path
        The new folder, or a file that ends in ``.zip``.
    image : Volume, optional
        The volume from which the test input is cut. When None, a tomogram is simulated.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        If `out` exists, or the network cannot be written as TorchScript.
    InputError
        If the bundle has no weights, or the image is too small.
    """
    if out.exists():
        message = f"{out}: exists already; remove it, or give another folder"
        raise ConfigError(message)
    model = load_model(place)
    check_describable(model)
    make_folder(out.parent)
    with TemporaryDirectory(dir=out.parent, prefix=".bioimageio-") as temporary:
        folder = Path(temporary) / "package"
        try:
            _write(folder, model, image)
            if out.suffix == ".zip":
                packed = shutil.make_archive(str(folder), "zip", folder)
                Path(packed).replace(out)
            else:
                folder.replace(out)
        except OSError as error:
            raise environment_fault(error, out) from error
    return out


def _write(folder: Path, model: TrainedModel, image: Volume | None) -> None:
    """Write all files of the package; the description comes last, with their hashes."""
    folder.mkdir()
    for name in PARTS:
        source = model.path / name
        if source.is_dir():
            unfinished = shutil.ignore_patterns("*.prev", ".*")
            shutil.copytree(source, folder / name, ignore=unfinished)
        elif source.is_file():
            shutil.copy(source, folder / name)
    metadata = read_config(model.path / "configs" / "metadata.json")
    document = folder / DOCUMENTATION
    if not document.is_file():
        document.parent.mkdir(exist_ok=True)
        write_text(document, f"# {model.name}\n")
    geometry = geometry_of(model.network)
    raw = _test_volume(model, geometry, image)
    offset, factor = model.intensity.measure(raw)
    scaled = torch.from_numpy(model.intensity.apply(raw.read(), offset, factor))
    script = _scripted(model)
    script.save(str(folder / TORCHSCRIPT))
    with torch.inference_mode():
        probs = script(_as_input(scaled, model)).softmax(1).numpy()
    given = _as_input(torch.from_numpy(raw.read().astype(np.float32)), model)
    np.save(folder / INPUT, given.numpy())
    np.save(folder / OUTPUT, probs)
    _cover(raw, probs[0]).save(folder / COVER)
    files = (DOCUMENTATION, TORCHSCRIPT, INPUT, OUTPUT, COVER)
    hashes = {name: _sha256(folder / name) for name in files}
    described = describe(model, geometry, metadata, hashes)
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    write_text(folder / RDF, text)


def _test_volume(
    model: TrainedModel, geometry: Geometry, image: Volume | None
) -> Volume:
    """Return the volume of the test input: a small block, or one stack of slices."""
    about = SIDE_3D if geometry.dims == 3 else SIDE_2D
    # The sides of an input are at least two strides long.
    sides = [max(2, about // step) * step for step in geometry.stride]
    shape = zyx(sides if geometry.dims == 3 else [2 * model.spec.context + 1, *sides])
    if image is None:
        edge = model.spacing_um.zyx[-1] if model.spacing_um is not None else SPACING_UM
        edge = edge if 0.005 <= edge <= 0.5 else SPACING_UM
        cube = [max(SIDE_3D, side) for side in shape]
        parts = [
            simulate_case(cube, seed=seed, spacing_um=edge).tomogram
            for seed in range(model.spec.image_channels)
        ]
        stack = ChannelStack(tuple(part.array for part in parts))
        image = replace(parts[0], array=stack) if len(parts) > 1 else parts[0]
    image = fit_channels(image, model.channels, model.spec.image_channels, model.name)
    if any(has < needs for has, needs in zip(image.shape, shape, strict=True)):
        message = (
            f"{image.name}: has {list(image.shape)} voxels, but the test input of "
            f"{model.name} needs at least {list(shape)}; give a larger image"
        )
        raise InputError(message)
    first = zyx(
        [(has - needs) // 2 for has, needs in zip(image.shape, shape, strict=True)]
    )
    last = zyx([low + side for low, side in zip(first, shape, strict=True)])
    return replace(image, array=image.read(Roi(first, last)))


def _as_input(array: torch.Tensor, model: TrainedModel) -> torch.Tensor:
    """Return a block (z, y, x) or (c, z, y, x) as the network's input (1, C, ...)."""
    block_czyx = array if array.ndim == 4 else array[None]
    if model.spec.spatial_dims == 3:
        return block_czyx[None].contiguous()
    return stack_slices(block_czyx, model.spec.context).contiguous()


def _scripted(model: TrainedModel) -> Any:  # noqa: ANN401 - torch names no type
    """Return the network as TorchScript, which runs without this package."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated in torch.
            return torch.jit.script(model.network)
    except (RuntimeError, torch.jit.frontend.NotSupportedError) as error:
        cause = str(error).strip().splitlines()[0]
        message = (
            f"{model.name}: its network cannot be written as TorchScript ({cause}), "
            "which a package needs; share it as a MONAI bundle instead"
        )
        raise ConfigError(message) from error


def _cover(raw: Volume, probs_kzyx: NDArray[np.float32]) -> Image.Image:
    """Return the cover picture of the model: the test input and its labels."""
    labels = probs_kzyx.argmax(0)
    plane = raw.channel(0).read()[raw.shape[0] // 2].astype(np.float64)
    lower, upper = np.percentile(plane, CLIPPED)
    found = labels[len(labels) // 2] if labels.ndim == 3 else labels
    panels = (grey(plane, float(lower), float(upper)), colour_labels(found, ids=True))
    # The format asks for a picture twice as wide as high.
    cover = Image.new("RGB", (2 * COVER_SIDE, COVER_SIDE))
    for number, panel in enumerate(panels):
        picture = Image.fromarray(panel).resize(
            (COVER_SIDE, COVER_SIDE), Image.Resampling.NEAREST
        )
        cover.paste(picture, (number * COVER_SIDE, 0))
    return cover


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
