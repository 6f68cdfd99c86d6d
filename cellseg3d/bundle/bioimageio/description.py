"""Describe a model in bioimage.io's ``rdf.yaml``: its input, output and files."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cellseg3d.bundle.metadata import input_channels
from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.intensity import CLIP, IntensityScale
from cellseg3d.models.geometry import Geometry

# The version of the format that the tests check with bioimage.io's own client.
FORMAT = "0.5.12"
# The files of a package, which the description lists.
RDF = "rdf.yaml"
INPUT = "test_input.npy"
OUTPUT = "test_output.npy"
COVER = "cover.png"
DOCUMENTATION = "docs/README.md"
TORCHSCRIPT = "models/model.ts"
# The smallest divisor that the format allows, for images of a single value.
EPSILON = 1e-9
_DOI = re.compile(r"doi:(10\.\S+)")
Described = dict[str, Any]


def describe(
    model: TrainedModel,
    geometry: Geometry,
    metadata: Mapping[str, Any],
    sha256: Mapping[str, str],
) -> Described:
    """Return the content of ``rdf.yaml`` for a trained model.

    Parameters
    ----------
    model : TrainedModel
    geometry : Geometry
        The shapes that its network takes.
    metadata : mapping
        The bundle's ``metadata.json``: authors, licence, references.
    sha256 : mapping of str to str
        The hash of each file, by its path in the package.
    """
    space = "zyx"[-geometry.dims :]
    inputs = [{"type": "batch"}, _channels(_input_names(model))]
    outputs = [{"type": "batch"}, _channels(model.classes)]
    for axis, step in zip(space, geometry.stride, strict=True):
        physical = _physical(model, axis)
        # A norm at the lowest level needs more than one voxel.
        size = {"min": 2 * step, "step": step}
        inputs.append({"type": "space", "id": axis, "size": size, **physical})
        same = {"tensor_id": "image", "axis_id": axis}
        outputs.append({"type": "space", "id": axis, "size": same, **physical})

    def stored(path: str) -> Described:
        return {"source": path, "sha256": sha256[path]}

    return {
        "format_version": FORMAT,
        "type": "model",
        "name": legal_name(model.name),
        "description": str(metadata.get("description") or metadata.get("task", "")),
        "authors": [{"name": str(metadata.get("authors", "unknown"))}],
        "license": str(metadata.get("license", "Apache-2.0")),
        "cite": citations(metadata.get("references", [])),
        "tags": ["segmentation", "unet", "cellseg3d", model.spec.kind.lower()],
        "version": str(metadata.get("version", "0.1.0")),
        "covers": [stored(COVER)],
        "documentation": stored(DOCUMENTATION),
        "inputs": [
            {
                "id": "image",
                "description": "raw intensities; the preprocessing scales them",
                "axes": inputs,
                "test_tensor": stored(INPUT),
                "data": {"type": "float32"},
                "preprocessing": preprocessing(
                    model.intensity, space, apart=model.spec.image_channels > 1
                ),
            }
        ],
        "outputs": [
            {
                "id": "probabilities",
                "description": "probabilities of " + ", ".join(model.classes)[:100],
                "axes": outputs,
                "test_tensor": stored(OUTPUT),
                "data": {"type": "float32"},
                "postprocessing": [{"id": "softmax", "kwargs": {"axis": "channel"}}],
            }
        ],
        "weights": {
            "torchscript": {
                **stored(TORCHSCRIPT),
                "pytorch_version": torch.__version__.partition("+")[0],
            }
        },
        "config": {
            "cellseg3d": {"weights_sha256": model.sha256, "window": dict(model.window)}
        },
    }


def preprocessing(
    scale: IntensityScale, space: str, *, apart: bool = False
) -> list[Described]:
    """Return the steps of the format that scale intensities as a bundle does.

    Parameters
    ----------
    scale : IntensityScale
    space : str
        The axes of space, such as ``"yx"``. Statistics are computed for each sample,
        over these axes and the slices of a stack together.
    apart : bool
        Whether each channel has statistics of its own.
    """
    over = {"axes": [*([] if apart else ["channel"]), *space], "eps": EPSILON}
    if scale.mode == "range":
        low, high = float(scale.lower), float(scale.upper)
        offset = -(low + high) / (high - low)
        steps = [_step("scale_linear", gain=2 / (high - low), offset=offset)]
    elif scale.mode == "zscore":
        steps = [_step("zero_mean_unit_variance", **over)]
    else:
        ends = {"min_percentile": scale.lower, "max_percentile": scale.upper}
        steps = [
            _step("scale_range", **over, **ends),
            _step("scale_linear", gain=2.0, offset=-1.0),
        ]
    return [*steps, _step("clip", min=-CLIP, max=CLIP)] if scale.clip else steps


def _input_names(model: TrainedModel) -> list[str]:
    if model.spec.image_channels == 1:
        return slice_names(model.spec.context)
    return input_channels(model.spec, model.channels)


def slice_names(context: int) -> list[str]:
    """Return the names of an input's channels, which are the slices of a stack.

    Parameters
    ----------
    context : int
        The number of slices on each side of the labelled one.
    """
    if not context:
        return ["image"]
    return [f"slice {number:+d}" for number in range(-context, context + 1)]


def legal_name(name: str) -> str:
    """Return a name that the format allows: 5 to 64 letters, digits and a few signs.

    Parameters
    ----------
    name : str
        The name of a bundle or run.
    """
    plain = re.sub(r"[^A-Za-z0-9_+() -]", "-", name)[:64]
    return plain if len(plain) >= 5 else f"cellseg3d {plain}"


def citations(references: Sequence[str]) -> list[Described]:
    """Return the references of a bundle's metadata that have a DOI."""
    found = []
    for text in references:
        doi = _DOI.search(text)
        if doi:
            found.append({"text": text[: doi.start()].rstrip(" ,"), "doi": doi[1]})
    return found


def check_describable(model: TrainedModel) -> None:
    """Refuse a model that the format cannot describe.

    Raises
    ------
    ConfigError
        If it takes stacks of slices of several channels: the format can only scale
        each slice of such a stack by itself.
    """
    if model.spec.image_channels != 1 and model.spec.context:
        message = (
            f"{model.name}: takes stacks of {model.spec.image_channels} image "
            "channels, whose scaling a package of bioimage.io cannot describe; give a "
            "2D or 3D bundle"
        )
        raise ConfigError(message)


def _channels(names: Sequence[str]) -> Described:
    return {"type": "channel", "channel_names": list(names)}


def _physical(model: TrainedModel, axis: str) -> Described:
    if model.spacing_um is None:
        return {}
    edge = dict(zip("zyx", model.spacing_um.zyx, strict=True))[axis]
    return {"unit": "micrometer", "scale": float(edge)}


def _step(name: str, **options: Any) -> Described:  # noqa: ANN401
    return {"id": name, "kwargs": options}
