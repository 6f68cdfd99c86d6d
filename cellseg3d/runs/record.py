"""Write ``run.json``: what was trained on which data, with which versions and cost."""

import json
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cellseg3d import __version__
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.memory import peak_bytes

NAME = "run.json"
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "safetensors", "scipy")


class RunRecord:
    """The content of ``run.json``, written when a training starts and when it ends.

    Parameters
    ----------
    folder : str or Path
        The run folder.
    facts : mapping
        What is known at the start, such as command, seed and data, as values for JSON.
    """

    def __init__(
        self, folder: str | Path, facts: Mapping[str, Any] | None = None
    ) -> None:
        self.path = Path(folder) / NAME
        self.values: dict[str, Any] = {
            "state": "created",
            "versions": versions(),
            "git_commit": git_commit(),
            "machine": machine(),
            **(facts or {}),
        }
        if earlier := _read(self.path).get("earlier_data"):
            self.values["earlier_data"] = earlier
        self._started_s = time.monotonic()
        # The cost of the run before it was interrupted and resumed.
        self._before = _cost_of(self.path)

    def start(self, **facts: Any) -> None:  # noqa: ANN401
        """Record that the training has begun."""
        self._started_s = time.monotonic()
        started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.values |= {"state": "running", "started": started, **facts}
        self.write()

    def end(self, state: str, **facts: Any) -> None:  # noqa: ANN401
        """Record how the training ended, with its time (s) and peak memory (GiB)."""
        wall_s = self._before["wall_s"] + time.monotonic() - self._started_s
        self.values |= {"state": state, **facts}
        self.values["cost"] = {
            "wall_s": round(wall_s, 3),
            "cpu_s": round(self._before["cpu_s"] + time.process_time(), 3),
            "peak_gib": round(peak_bytes() / 2**30, 3),
        }
        self.write()

    def write(self) -> None:
        """Write the file; it replaces the previous one only when it is complete."""
        text = json.dumps(_finite(self.values), indent=1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, text + "\n")


def changed_data(folder: Path, content: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the names of images and labels that have changed since a run's start.

    Parameters
    ----------
    folder : Path
        The run folder.
    content : mapping of str to mapping of str to str
        Hashes by case name, under the keys ``"content"`` and ``"label_content"``. Cases
        that the run did not have count as changed.
    """
    known = _data_of(folder / NAME)
    return [
        f"{name} ({'image' if key == 'content' else 'label'})"
        for key, hashes in content.items()
        if isinstance(known.get(key), dict)
        for name, digest in hashes.items()
        if known[key].get(name) != digest
    ]


def accept_data(folder: Path) -> None:
    """Remove the hashes of a run's data, so that it can continue with other data."""
    path = folder / NAME
    if not path.is_file():
        return
    values = read_mapping(path)
    values["earlier_data"] = [*values.get("earlier_data", []), values.pop("data", {})]
    text = json.dumps(values, indent=1)
    write_text(path, text + "\n")


def _data_of(path: Path) -> dict[str, Any]:
    """Return the data that a record names; empty if it is damaged or missing."""
    data = _read(path).get("data", {})
    return data if isinstance(data, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    """Return a record; empty if it is damaged or missing."""
    try:
        return read_mapping(path) if path.is_file() else {}
    except ConfigError:
        return {}


def _cost_of(path: Path) -> dict[str, float]:
    """Return the seconds that earlier parts of a run took; zeros if there are none."""
    cost = _read(path).get("cost")
    known = cost if isinstance(cost, dict) else {}
    found = {key: known.get(key, 0.0) for key in ("wall_s", "cpu_s")}
    return {
        key: float(value) if isinstance(value, int | float) else 0.0
        for key, value in found.items()
    }


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the packages in use."""
    found = {"cellseg3d": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the git commit that this package runs from; None outside of a checkout.

    A ``+`` is appended if files differ from the commit.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+" if changed else commit


def machine() -> dict[str, Any]:
    """Return the operating system, the number of threads and the GPU."""
    import torch  # noqa: PLC0415

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=10,
    )
    return done.stdout.strip()


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124
