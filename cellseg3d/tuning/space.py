"""The search space: config keys of a training and the values they may take."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellseg3d.bundle.compose import check_read, prune, read_config
from cellseg3d.bundle.resolve import resolve_config
from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.words import refuse_unknown

KEYS = ("bundle", "set", "search")
_RANGE = ("low", "high", "log")


@dataclass(frozen=True)
class Dimension:
    """The values that one key may take: a list of choices, or a range.

    Parameters
    ----------
    key : str
        Key of the training's config.
    choices : tuple
        Values to choose from; empty for a range.
    low, high : int or float
        Bounds of a range. If both are whole numbers, only whole numbers are tried.
    log : bool
        Whether to search on a logarithmic scale, as for a learning rate.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def first(self) -> Any:  # noqa: ANN401
        """Return one value of the dimension."""
        return self.choices[0] if self.choices else self.low

    def suggest(self, trial: Any) -> Any:  # noqa: ANN401
        """Return the value that Optuna suggests for a trial."""
        if self.choices:
            # Optuna's database stores text, but a choice may be a list, such as a
            # patch.
            texts = [json.dumps(choice) for choice in self.choices]
            return json.loads(trial.suggest_categorical(self.key, texts))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Space:
    """The values to search, and the settings that stay fixed.

    Parameters
    ----------
    bundle : str
        The bundle to train.
    dimensions : tuple of Dimension
    fixed : mapping of str to object
        Config keys and values that are the same in all trials.
    """

    bundle: str
    dimensions: tuple[Dimension, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def suggest(self, trial: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return the settings of a trial, without the fixed ones."""
        return {each.key: each.suggest(trial) for each in self.dimensions}

    def check(self) -> None:
        """Raise an error if the bundle's training does not have one of the keys.

        Raises
        ------
        ConfigError
            If a key is unknown. The message names the closest known one.
        """
        path = find_bundle(self.bundle) / "configs" / "train.json"
        some = {each.key: each.first() for each in self.dimensions}
        changed = resolve_config(path, {**self.fixed, **some})
        check_read(prune(changed), str(path))


def read_space(path: Path, bundle: str | None = None) -> Space:
    """Read a search space from YAML or JSON.

    Parameters
    ----------
    path : Path
        ``bundle`` (a name or folder), ``set`` (config keys to fixed values) and
        ``search``: config keys to a list of choices, or to ``{low, high, log}``.
    bundle : str, optional
        Bundle to use instead of the file's.

    Raises
    ------
    ConfigError
        If a key is unknown or a range is not valid.
    """
    values = read_config(path)
    refuse_unknown(values, KEYS, str(path))
    search = values.get("search")
    if not isinstance(search, Mapping) or not search:
        message = (
            f"{path}: 'search' is missing or empty; expected such as "
            "'optimizer::lr: {low: 0.0005, high: 0.01, log: true}'"
        )
        raise ConfigError(message)
    dimensions = [_dimension(path, str(key), value) for key, value in search.items()]
    name = bundle or str(values.get("bundle", "cell_tomo_unet3d"))
    fixed = values.get("set") or {}
    if not isinstance(fixed, Mapping):
        message = (
            f"{path}: 'set' is {fixed!r}; expected config keys and their values, such "
            "as 'max_epochs: 20'"
        )
        raise ConfigError(message)
    space = Space(name, tuple(dimensions), dict(fixed))
    space.check()
    return space


def _dimension(path: Path, key: str, value: Any) -> Dimension:  # noqa: ANN401
    if isinstance(value, list) and value:
        return Dimension(key, tuple(value))
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value):
        message = (
            f"{path}: {key} is {value!r}; expected a list of values, or low and high"
        )
        raise ConfigError(message)
    refuse_unknown(value, _RANGE, f"{path}: {key}")
    low, high, log = value["low"], value["high"], bool(value.get("log", False))
    numbers = all(
        isinstance(end, int | float)
        and not isinstance(end, bool)
        and math.isfinite(end)
        for end in (low, high)
    )
    if not numbers or not low < high or (log and low <= 0):
        message = (
            f"{path}: {key} runs from {low!r} to {high!r}; expected two numbers, low "
            "below high" + (", both above 0 for log" if log else "")
        )
        raise ConfigError(message)
    return Dimension(key, (), low, high, log)
