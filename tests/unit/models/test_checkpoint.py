import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from cellseg3d.core.atomic import sweep_orphans
from cellseg3d.core.errors import (
    ConfigError,
    EnvironmentFault,
    FormatError,
    NonFiniteError,
)
from cellseg3d.models.checkpoint import ArchitectureError, load_weights, save_weights
from cellseg3d.models.training_state import load_state, save_state
from cellseg3d.models.unet import build_network

SPEC = {"spatial_dims": 2, "patch_shape": [32, 32]}


def weights(value=1.0):
    return {
        "a.weight": torch.full((3, 2), value),
        "a.bias": torch.arange(3) * value,
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "low": torch.ones(5, dtype=torch.bfloat16),
    }


def test_weights_come_back_bit_for_bit_with_their_metadata(tmp_path):
    path = tmp_path / "best.safetensors"
    network = build_network("residual_unet", SPEC, 3)
    network.to(memory_format=torch.channels_last)
    metadata = {"classes": ["background", "cell", "nucl\u00e9us"], "halo": [16, 16]}

    digest = save_weights(path, network.state_dict(), metadata)
    loaded = load_weights(path, network)

    assert loaded.metadata == metadata
    assert loaded.sha256 == digest
    assert loaded.warnings == ()
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.tensors[name], tensor)
    other = build_network("residual_unet", SPEC, 3)
    other.load_state_dict(loaded.tensors)


def test_hash_tells_values_names_and_metadata_apart(tmp_path):
    path = tmp_path / "w.safetensors"
    renamed = {f"{name}x": tensor for name, tensor in weights().items()}
    digests = [
        save_weights(path, weights()),
        save_weights(path, weights(2.0)),
        save_weights(path, renamed),
        save_weights(path, weights(), {"epoch": 1}),
    ]

    assert len(set(digests)) == 4
    assert save_weights(path, weights()) == digests[0]


def test_previous_weights_are_kept(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, weights(1.0))
    save_weights(path, weights(2.0))

    previous = load_weights(tmp_path / "w.safetensors.prev")

    assert previous.tensors["a.weight"][0, 0] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        path.name,
        f"{path.name}.prev",
    ]


def test_no_flipped_bit_passes(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, weights(), {"classes": ["background", "cell"]})
    whole = path.read_bytes()
    generator = random.Random(0)

    for _ in range(300):
        position, bit = generator.randrange(len(whole)), generator.randrange(8)
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"w\.safetensors: "):
            load_weights(path)


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.99])
def test_cut_weights_are_refused_or_replaced_by_the_one_before(tmp_path, share, caplog):
    path = tmp_path / "w.safetensors"
    save_weights(path, weights(1.0))
    (tmp_path / "w.safetensors.prev").unlink(missing_ok=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(FormatError, match="not a complete safetensors file"):
        load_weights(path)
    (tmp_path / "w.safetensors.prev").write_bytes(whole)
    loaded = load_weights(path)

    assert loaded.tensors["a.weight"][0, 0] == 1
    assert loaded.path.name == "w.safetensors.prev"
    (warning,) = loaded.warnings
    assert "not a complete safetensors file" in warning
    assert "using the one before it, w.safetensors.prev" in warning
    assert warning in caplog.text


def test_non_finite_weights_are_never_written_and_never_read(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, weights(1.0))
    poisoned = weights(1.0)
    poisoned["a.weight"][1, 1] = float("nan")

    with pytest.raises(NonFiniteError, match=r"1 of 6 values of 'a.weight' are NaN"):
        save_weights(path, poisoned)
    assert load_weights(path).warnings == ()
    torch.save(poisoned, tmp_path / "model.pt")
    with pytest.raises(NonFiniteError, match=r"model.pt.*'a.weight'"):
        load_weights(tmp_path / "model.pt")


def test_weights_of_another_network_are_refused_naming_the_first_difference(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, build_network("residual_unet", SPEC, 3).state_dict())

    for other, message in [
        (
            build_network("residual_unet", SPEC, 4),
            r"head.weight.* \(3, 16, 1, 1\).*\(4",
        ),
        (build_network("unet", SPEC, 3), r"'network.model.0.* is missing"),
        (torch.nn.Linear(2, 2), r"is missing"),
        ({}, r"'network.down.0.* is not in the network"),
    ]:
        with pytest.raises(ArchitectureError, match=message):
            load_weights(path, other)


def test_foreign_state_dicts_load_bare_nested_and_from_data_parallel(tmp_path):
    path = tmp_path / "model.pt"
    parallel = {f"module.{name}": tensor for name, tensor in weights().items()}

    for values in (
        weights(),
        {"model": weights(), "epoch": 3},
        {"state_dict": parallel},
    ):
        torch.save(values, path)
        loaded = load_weights(path, weights())

        assert torch.equal(loaded.tensors["a.bias"], weights()["a.bias"])


class _Payload:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def test_pickled_code_is_neither_run_nor_recommended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"

    for write in (
        lambda: torch.save({"w": _Payload()}, path),
        lambda: path.write_bytes(pickle.dumps({"w": _Payload()})),
    ):
        write()
        with pytest.raises(FormatError, match="Python objects") as caught:
            load_weights(path)

        assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("text", [b"", b"<html>not found</html>", b"\x80"])
def test_a_file_that_is_no_torch_file_is_named(tmp_path, text):
    path = tmp_path / "model.pt"
    path.write_bytes(text)

    with pytest.raises(FormatError, match=r"model\.pt: "):
        load_weights(path)
    with pytest.raises(FormatError, match="no such file"):
        load_weights(tmp_path / "other.pt")


def state(epoch=3):
    random.seed(epoch)
    parameter = torch.nn.Parameter(torch.ones(4))
    optimiser = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimiser.step()
    return {
        "optimiser": optimiser.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "numpy_rng": np.random.RandomState(epoch).get_state(),
        "generator": np.random.default_rng(epoch).bit_generator.state,
        "python_rng": random.getstate(),
        "best": np.float64(0.5),
        "schedule": {"lr": [1e-3], "best": float("inf"), "mode": "max", "none": None},
        "epoch": epoch,
    }


def test_state_comes_back_and_restores_every_generator(tmp_path):
    path = tmp_path / "last.state.pt"
    values = state()

    save_state(path, values)
    read = load_state(path).values

    assert read["epoch"] == 3
    assert read["best"] == 0.5
    assert read["schedule"] == values["schedule"]
    assert read["generator"] == values["generator"]
    random.setstate(read["python_rng"])
    assert random.getstate() == values["python_rng"]
    name, keys, *rest = read["numpy_rng"]
    restored = np.random.RandomState()
    restored.set_state((name, keys.numpy(), *rest))
    assert restored.rand() == np.random.RandomState(3).rand()
    moments = read["optimiser"]["state"][0]["exp_avg"]
    assert torch.equal(moments, values["optimiser"]["state"][0]["exp_avg"])


def test_state_that_cannot_be_read_back_safely_is_refused_by_place(tmp_path):
    path = tmp_path / "last.state.pt"

    with pytest.raises(ConfigError, match=r"state\['a'\]\[1\] is a PosixPath"):
        save_state(path, {"a": [1, tmp_path]})
    with pytest.raises(NonFiniteError, match=r"state\['a'\]\[0\]"):
        save_state(path, {"a": [torch.tensor([1, float("inf")])]})
    assert not path.exists()


def test_damaged_state_gives_way_to_the_one_before(tmp_path):
    path = tmp_path / "last.state.pt"
    save_state(path, state(1))
    save_state(path, state(2))
    whole = path.read_bytes()
    position = whole.index(load_state(path).values["torch_rng"].numpy().tobytes()) + 99
    flipped = bytearray(whole)
    flipped[position] ^= 16

    for damaged in (bytes(flipped), whole[:-100], whole[:10], b""):
        path.write_bytes(damaged)
        read = load_state(path)

        assert read.values["epoch"] == 1
        assert "last.state.pt.prev" in read.warnings[0]


def test_full_disk_keeps_the_old_checkpoint_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(path, weights(1.0))
    full = OSError(28, "No space left on device")

    def refuse(*_):
        raise full

    monkeypatch.setattr("cellseg3d.models.checkpoint._write", refuse)
    with pytest.raises(EnvironmentFault, match="disk full"):
        save_weights(path, weights(2.0))

    assert load_weights(path).tensors["a.weight"][0, 0] == 1
    assert list(tmp_path.iterdir()) == [path]


NURSERY = """
import os, sys, torch
from pathlib import Path
from cellseg3d.models.checkpoint import save_weights
from cellseg3d.models.training_state import save_state
for line in sys.stdin:
    folder, epoch = Path(sys.argv[1]), int(line)
    child = os.fork()
    while not child:
        epoch += 1
        values = {"epoch": epoch, "moments": torch.full((20_000,), float(epoch))}
        tensors = {"w": torch.full((50_000,), float(epoch))}
        save_weights(folder / "last.safetensors", tensors, {"epoch": epoch})
        save_state(folder / "last.state.pt", values)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def survive(folder, kills):
    """Kill a process that does nothing but save, again and again; return its epoch."""
    generator, epoch = random.Random(1), 0
    like = {"w": torch.zeros(50_000)}
    save_weights(folder / "last.safetensors", like, {"epoch": 0})
    save_state(folder / "last.state.pt", {"epoch": 0})
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", NURSERY, str(folder)]
    with subprocess.Popen(command, **pipes) as nursery:
        for _ in range(kills):
            print(epoch, file=nursery.stdin, flush=True)
            child = int(nursery.stdout.readline())
            time.sleep(generator.uniform(0.0, 0.4))
            os.kill(child, signal.SIGKILL)
            assert nursery.stdout.readline() == "dead\n"

            found = load_weights(folder / "last.safetensors", like)
            read = load_state(folder / "last.state.pt")

            assert found.warnings == read.warnings == ()
            assert (found.tensors["w"] == found.metadata["epoch"]).all()
            # Killed between the two, the weights are one epoch ahead.
            assert epoch <= read.values["epoch"] <= found.metadata["epoch"]
            assert found.metadata["epoch"] <= read.values["epoch"] + 1
            epoch = read.values["epoch"]
        nursery.stdin.close()
    sweep_orphans(folder)
    assert {path.name.split(".")[0] for path in folder.iterdir()} == {"last"}
    return epoch


def test_20_kills_during_saving_lose_nothing(tmp_path):
    assert survive(tmp_path, 20) > 0


@pytest.mark.slow
def test_200_kills_during_saving_lose_nothing(tmp_path):
    assert survive(tmp_path, 200) > 100


def test_metadata_is_plain_json_that_any_safetensors_reader_shows(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, weights(), {"classes": ["background", "cell"]})
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])

    record = json.loads(header["__metadata__"]["cellseg3d"])

    assert record["metadata"] == {"classes": ["background", "cell"]}
    assert set(record["sha256"]) == set(weights())
