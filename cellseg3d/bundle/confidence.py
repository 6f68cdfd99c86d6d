"""What was measured about a model's probabilities on validation volumes.

It is stored in the metadata of a bundle or run: the temperature that makes its
probabilities come true, and for each class the line by which prediction expects a Dice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import read_config
from cellseg3d.core.errors import ConfigError
from cellseg3d.metrics.expected_dice import DiceLine

# The key in ``metadata.json``, in ``run.json`` and in records of weights.
KEY = "confidence"


@dataclass(frozen=True)
class Confidence:
    """The temperature of a model, and the lines by which a Dice is expected.

    Parameters
    ----------
    temperature : float
        What logits are divided by before the softmax, > 0.
    lines : mapping of str to DiceLine
        The line of each class; classes without a line are absent.
    measured : mapping
        What is stored: also the errors before and after, and the volumes.
    """

    temperature: float
    lines: Mapping[str, DiceLine]
    measured: Mapping[str, Any]

    @classmethod
    def parse(cls, values: Any, where: Path) -> "Confidence":  # noqa: ANN401
        """Return what metadata hold under `KEY`.

        Raises
        ------
        ConfigError
            If a value is missing or not valid.
        """
        try:
            temperature = float(values["temperature"])
            lines = {
                str(name): DiceLine.parse(line)
                for name, line in values.get("dice", {}).items()
            }
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ConfigError(_wrong(where, repr(error))) from error
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError(_wrong(where, f"the temperature is {temperature}"))
        return cls(temperature, lines, dict(values))


def _wrong(where: Path, what: str) -> str:
    return (
        f"{where}: {KEY!r} cannot be used ({what}); expected a temperature above 0 and "
        "a line for each class; measure it anew with `cellseg3d bundle calibrate`"
    )


def store_confidence(folder: Path, found: Mapping[str, Any] | None) -> None:
    """Write what was measured into the metadata of a run or bundle; None removes it."""
    path = folder / "configs" / "metadata.json"
    metadata = read_config(path)
    metadata.pop(KEY, None)
    write_config(path, metadata if found is None else {**metadata, KEY: dict(found)})
