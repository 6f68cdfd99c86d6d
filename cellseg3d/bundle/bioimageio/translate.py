"""Translate ``rdf.yaml`` into the settings of a bundle; refuse what has no counterpart.

``where`` is the package, which errors name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.intensity import IntensityScale

Values = Mapping[str, Any]
# The functions that turn outputs into probabilities.
ACTIVATIONS = ("softmax", "sigmoid")
# Test outputs are computed in 32 bits, so probabilities may be off by this much.
_NEARLY = 1e-3
_UM = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "angstrom": 1e-4}
Step = list[Any]


def letters_of(tensor: Values, where: str) -> str:
    """Return the axes of a tensor as letters, such as ``"bcyx"``.

    Raises
    ------
    ConfigError
        If an axis is not batch, channel, z, y or x.
    """
    found = ""
    for axis in tensor["axes"]:
        letter = {"batch": "b", "channel": "c"}.get(axis["type"], str(axis.get("id")))
        if letter not in set("bczyx"):
            message = (
                f"{where}: {tensor['id']} has the axis {letter!r} ({axis['type']}); "
                "only batch, channel, z, y and x are taken"
            )
            raise ConfigError(message)
        found += letter
    return found


def sizes_of(tensor: Values, where: str) -> tuple[list[int], list[int]]:
    """Return the smallest sides of an input, and the steps by which they may grow.

    Both are in the order z, y, x. The step of a fixed side is 0.

    Raises
    ------
    ConfigError
        If a side depends on another one.
    """
    space = {axis["id"]: axis["size"] for axis in tensor["axes"] if _is_space(axis)}
    smallest, steps = [], []
    for letter in (each for each in "zyx" if each in space):
        size = space[letter]
        if isinstance(size, int):
            smallest.append(size)
            steps.append(0)
        elif isinstance(size, Mapping) and {"min", "step"} <= set(size):
            smallest.append(int(size["min"]))
            steps.append(int(size["step"]))
        else:
            message = (
                f"{where}: the size of {tensor['id']}.{letter} is {size}; expected a "
                "number, or min and step"
            )
            raise ConfigError(message)
    return smallest, steps


def check_same_grid(given: Values, answer: Values, where: str) -> None:
    """Refuse a model whose output does not lie on the grid of its input.

    Raises
    ------
    ConfigError
        If an axis of space is scaled, cut or of another size.
    """
    scales = {axis["id"]: axis for axis in given["axes"] if _is_space(axis)}
    for axis in answer["axes"]:
        if not _is_space(axis):
            continue
        size, source = axis["size"], scales[axis["id"]]
        if isinstance(size, Mapping):
            same = size.get("axis_id") == axis["id"] and not size.get("offset")
            same &= axis.get("scale", 1.0) == source.get("scale", 1.0)
        else:
            same = size == source["size"]
        if not same:
            message = (
                f"{where}: {answer['id']}.{axis['id']} is not the same as the input's "
                f"axis ({size}); only models that answer on the grid of their input "
                "are taken"
            )
            raise ConfigError(message)


def halo_of(answer: Values) -> list[int]:
    """Return the halo of an output by z, y, x; 0 along axes that state none."""
    stated = {
        axis["id"]: axis.get("halo", 0) for axis in answer["axes"] if _is_space(axis)
    }
    return [int(stated[each]) for each in "zyx" if each in stated]


def spacing_of(tensor: Values) -> tuple[float, float, float] | None:
    """Return the voxel edges (z, y, x) in um; None if they are not all stated."""
    stated = {axis["id"]: axis for axis in tensor["axes"] if _is_space(axis)}
    units = [_UM.get(str(axis.get("unit"))) for axis in stated.values()]
    if len(stated) < 3 or None in units:
        return None
    z, y, x = (
        float(stated[each].get("scale", 1.0)) * _UM[stated[each]["unit"]]
        for each in "zyx"
    )
    return z, y, x


def channels_of(tensor: Values) -> list[str]:
    """Return the names of a tensor's channels; its own name if it has no such axis."""
    for axis in tensor["axes"]:
        if axis["type"] == "channel":
            return [str(name) for name in axis["channel_names"]]
    return [str(tensor["id"])]


def scaling_of(tensor: Values, where: str) -> tuple[IntensityScale, list[Step]]:
    """Return how raw intensities are scaled, and the steps that follow.

    Raises
    ------
    ConfigError
        If the preprocessing holds a step that has no counterpart.
    """
    # This scale leaves intensities unchanged.
    scale = IntensityScale("range", -1.0, 1.0, clip=False)
    steps: list[Step] = []
    space = {axis["id"] for axis in tensor["axes"] if _is_space(axis)}
    for number, step in enumerate(_plain(tensor.get("preprocessing", []))):
        name, options = step["id"], dict(step.get("kwargs") or {})
        if name in ("scale_range", "zero_mean_unit_variance"):
            over = set(options.get("axes") or space)
            foreign = options.get("reference_tensor") not in (None, tensor["id"])
            if number or foreign or not space <= over:
                message = (
                    f"{where}: step {number + 1} of the preprocessing, {name} over "
                    f"{sorted(over)}, is not over a whole raw image; such models "
                    "cannot be predicted"
                )
                raise ConfigError(message)
            if name == "scale_range":
                low = float(options.get("min_percentile", 0))
                high = float(options.get("max_percentile", 100))
                scale = IntensityScale("percentile", low, high, clip=False)
                # A bundle scales to -1 and 1, and the format to 0 and 1.
                steps.append(["linear", 0.5, 0.5])
            else:
                scale = IntensityScale("zscore", clip=False)
            continue
        steps.append(_step(name, options, f"{where}: preprocessing"))
    return scale, steps


def steps_after(tensor: Values, where: str) -> list[Step]:
    """Return the postprocessing of an output as steps.

    Raises
    ------
    ConfigError
        If there is a step that has no counterpart.
    """
    return [
        _step(step["id"], dict(step.get("kwargs") or {}), f"{where}: postprocessing")
        for step in _plain(tensor.get("postprocessing", []))
    ]


def answers_of(output: NDArray[Any], axes: str, where: str) -> str:
    """Return the kind of probabilities in a test output: "softmax" or "sigmoid".

    Parameters
    ----------
    output : ndarray
        The model's answer to its test input, after its postprocessing.
    axes : str
        The axes of the output.
    where : str
        The package, which errors name.

    Raises
    ------
    ConfigError
        If the output does not hold probabilities.
    """
    low, high = float(output.min()), float(output.max())
    if low < -_NEARLY or high > 1 + _NEARLY:
        message = (
            f"{where}: its test output reaches from {low:.3g} to {high:.3g}, which are "
            "no probabilities, and nothing says how they become some; pass "
            "activation softmax (classes) or sigmoid (each channel by itself)"
        )
        raise ConfigError(message)
    if "c" not in axes or output.shape[axes.index("c")] == 1:
        return "sigmoid"
    sums = output.astype(np.float64).sum(axis=axes.index("c"))
    return "softmax" if np.allclose(sums, 1, atol=10 * _NEARLY) else "sigmoid"


def _is_space(axis: Values) -> bool:
    return str(axis["type"]) == "space"


def _plain(steps: Sequence[Values]) -> list[Values]:
    """Return the steps without those that only convert numbers to floats."""
    return [
        step
        for step in steps
        if not (
            step["id"] == "ensure_dtype"
            and str(step.get("kwargs", {}).get("dtype")).startswith("float")
        )
    ]


def _step(name: str, options: dict[str, Any], where: str) -> Step:
    """Return the step of a bundle that does what a step of the format does."""
    if name == "scale_linear" and "axis" not in options:
        return [
            "linear",
            float(options.get("gain", 1)),
            float(options.get("offset", 0)),
        ]
    if name == "fixed_zero_mean_unit_variance":
        mean, spread = _single(options.get("mean")), _single(options.get("std"))
        if mean is not None and spread:
            return ["linear", 1 / spread, -mean / spread]
    if name == "clip" and not {"min_percentile", "max_percentile"} & set(options):
        ends = (options.get("min"), options.get("max"))
        low, high = (
            (-np.inf, np.inf)[i] if e is None else e for i, e in enumerate(ends)
        )
        return ["clip", max(float(low), -3e38), min(float(high), 3e38)]
    if name == "sigmoid":
        return ["sigmoid"]
    if name == "softmax" and options.get("axis", "channel") == "channel":
        return ["softmax"]
    message = (
        f"{where} holds the step {name} ({options}), which has no counterpart here; "
        "use the model with bioimageio.core"
    )
    raise ConfigError(message)


def _single(value: Any) -> float | None:  # noqa: ANN401
    """Return a number, or the only number of a list; None for several."""
    if isinstance(value, list):
        return float(value[0]) if len(value) == 1 else None
    return None if value is None else float(value)
