"""How raw intensities are scaled for a package that does not state it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cellseg3d.bundle.foreign.package import Package
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.intensity import IntensityScale

# Configs that may name the scaling of the training. They are read and never run.
_CONFIGS = ("configs/inference.json", "configs/inference.yaml")
_SCALES = re.compile(r"(Scale|Normalize|Threshold)Intensity\w*$")


def parse_scaling(text: str) -> IntensityScale | None:
    """Return the scale that a text names; None for ``none``.

    Parameters
    ----------
    text : str
        ``percentile:LOW:HIGH``, ``range:LOW:HIGH``, ``zscore`` or ``none``.

    Raises
    ------
    ConfigError
        If it names no scale.

    Examples
    --------
    >>> from cellseg3d.bundle.foreign.scaling import parse_scaling
    >>> parse_scaling("range:0:255").upper
    255.0
    """
    mode, *numbers = text.split(":")
    try:
        if (mode, len(numbers)) == ("none", 0):
            return None
        if (mode, len(numbers)) == ("zscore", 0):
            return IntensityScale("zscore", clip=False)
        if mode in ("percentile", "range") and len(numbers) == 2:
            low, high = map(float, numbers)
            kind: Any = mode
            return IntensityScale(kind, low, high, clip=False)
    except ValueError:
        pass
    message = (
        f"`intensity` is {text!r}; expected percentile:LOW:HIGH, range:LOW:HIGH, "
        "zscore or none"
    )
    raise ConfigError(message)


def named_scalings(package: Package) -> Iterator[str]:
    """Yield the transforms of intensities that a config of the package names."""
    for name in filter(package.has, _CONFIGS):
        try:
            config = package.mapping(name)
        except ConfigError:
            continue
        for block in _blocks(config):
            target = str(block.get("_target_", "")).rsplit(".", maxsplit=1)[-1]
            if _SCALES.match(target):
                values = {
                    k: v for k, v in block.items() if k not in ("_target_", "keys")
                }
                said = ", ".join(f"{key} {value}" for key, value in values.items())
                yield f"{target} ({said})"[:200]


def _blocks(value: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _blocks(item)
