"""A kind of file that can be damaged, and the ways to damage it."""

import copy
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open

from cellseg3d.models.checkpoint import save_weights
from cellseg3d.models.training_state import state_sha256

# Values that programs and people put where another was meant.
ODD = (
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    2**70,
    "",
    "x",
    "../..",
    "a\nb",
    [],
    {},
    [[]],
    {"a": 1},
    "$import os",
    "@missing",
    ["a", 1, None],
)


Damage = Callable[[Path, random.Random], None]


@dataclass(frozen=True)
class Target:
    """A kind of file: where an intact one lies, and how it is read.

    Parameters
    ----------
    name : str
    place : Path
        The file or folder to copy.
    inside : tuple of str
        Glob patterns of the files in the folder to damage; empty for a file.
    read : callable
        Reads the copy and returns what it holds, as text; None where that cannot be
        compared.
    damage : callable, optional
        Changes a file; by default its bytes, or what its JSON or YAML says.
    slow : bool
        Whether reading takes a part of a second, so that fewer mutants are made.
    """

    name: str
    place: Path
    inside: tuple[str, ...]
    read: Callable[[Path], str | None]
    damage: Damage | None = None
    slow: bool = False

    @cached_property
    def intact(self) -> str | None:
        """What the file holds before it is damaged."""
        with tempfile.TemporaryDirectory() as folder:
            return self.read(self.copied_to(Path(folder)))

    def copied_to(self, folder: Path) -> Path:
        """Copy the intact file or folder into a folder and return the copy."""
        copy = folder / self.place.name
        if self.place.is_dir():
            shutil.copytree(self.place, copy)
        else:
            shutil.copyfile(self.place, copy)
        return copy


def damage(file: Path, chance: random.Random) -> None:
    """Change a file: its bytes, or what its JSON or YAML says."""
    if file.suffix in (".json", ".yaml") and chance.random() < 0.7:
        _change_values(file, chance)
        return
    data = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        _change_bytes(data, chance)
    file.write_bytes(data)


def _change_bytes(data: bytearray, chance: random.Random) -> None:
    if not data:
        data += b"x"
        return
    # Headers are worth more than their share of the bytes.
    reach = len(data) if chance.random() < 0.5 else min(len(data), 600)
    at = chance.randrange(reach)
    kind = chance.randrange(7)
    if kind == 0:
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        width = chance.choice((1, 2, 4, 8))
        value = chance.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1)))
        data[at : at + width] = value.to_bytes(width, chance.choice(("little", "big")))
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        del data[at : at + chance.randrange(1, 64)]
    elif kind == 4:
        data[at:at] = data[at : at + chance.randrange(1, 64)]
    elif kind == 5:
        data += bytes(chance.randrange(1, 200))
    else:
        length = chance.randrange(1, 64)
        data[at : at + length] = bytes(chance.randrange(256) for _ in range(length))


def _change_values(file: Path, chance: random.Random) -> None:
    """Change one value somewhere in a JSON or YAML file."""
    text = file.read_text(encoding="utf-8")
    values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    _change_one(values, chance)
    dump = json.dumps if file.suffix == ".json" else yaml.safe_dump
    written = dump(values)
    file.write_text(written, encoding="utf-8")


def damage_state(file: Path, chance: random.Random) -> None:
    """Change a training state: its bytes, or a value, which gets a new hash."""
    if chance.random() < 0.3:
        damage(file, chance)
        return
    values = torch.load(file, weights_only=True)["values"]
    _change_one(values, chance)
    torch.save({"values": values, "sha256": state_sha256(values)}, file)


def damage_weights(file: Path, chance: random.Random) -> None:
    """Change weights: their bytes, or a fact or tensor, which gets a new hash."""
    if chance.random() < 0.3:
        damage(file, chance)
        return
    with safe_open(file, framework="pt") as opened:
        facts = json.loads(opened.metadata()["cellseg3d"])["metadata"]
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if chance.random() < 0.8:
        _change_one(facts, chance)
    else:
        _change_tensor(tensors, chance)
    save_weights(file, tensors, facts)
    file.with_name(f"{file.name}.prev").unlink(missing_ok=True)


def damage_torch(file: Path, chance: random.Random) -> None:
    """Change a torch file of weights: its bytes, or a tensor."""
    if chance.random() < 0.5:
        damage(file, chance)
        return
    tensors = torch.load(file, weights_only=True)
    _change_tensor(tensors, chance)
    torch.save(tensors, file)


def _change_tensor(tensors: dict[str, Any], chance: random.Random) -> None:
    name = chance.choice(sorted(tensors))
    tensor = tensors[name]
    kind = chance.randrange(6)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name] = tensor.reshape(-1)
    elif kind == 2:
        tensors[name] = tensor.to(chance.choice((torch.int8, torch.float64)))
    elif kind == 3:
        tensors[name] = tensor[..., :0].contiguous()
    elif kind == 4:
        tensors[f"{name}.x"] = tensor.clone()
    else:
        tensors[name] = tensor.to(torch.complex64)


def _change_one(values: Any, chance: random.Random) -> None:  # noqa: ANN401
    """Replace, remove or add one value somewhere in nested values."""
    nodes: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:  # noqa: ANN401
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            nodes.append((node, key))
            if isinstance(node[key], dict | list):
                collect(node[key])

    if isinstance(values, dict | list):
        collect(values)
    node, key = chance.choice(nodes)
    kind = chance.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[str(chance.choice(ODD))] = copy.deepcopy(node[key])
    else:
        node[key] = copy.deepcopy(chance.choice(ODD))
