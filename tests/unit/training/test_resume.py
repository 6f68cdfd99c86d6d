"""A stopped training that goes on ends in the same bits as one that was not."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.models.training_state import read_state, state_sha256
from cellseg3d.runs.options import TrainOptions
from cellseg3d.training.interrupt import Interrupt
from cellseg3d.training.train import resume, train

TINY = {
    "train::dataset::samples": 8,
    "network_def::channels": [4, 8],
    "spec::patch_shape": [8, 8, 8],
    "val_interval": 2,
}


def options(workers=0, epochs=3, **settings):
    return TrainOptions(
        epochs=epochs,
        workers=workers,
        seed=7,
        device="cpu",
        precision="float32",
        progress=False,
        settings={**TINY, **settings},
    )


def weights(run):
    return state_sha256(load_file(run / "models" / "last.safetensors"))


def losses(run):
    return json.loads((run / "history.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(balls, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    return train("cell_tomo_unet3d", balls, run, options())


def stop_at(iteration, monkeypatch):
    """A signal comes during the step of this number."""
    once = []

    def asked(self, engine):
        if engine.state.iteration == iteration and not once:
            once.append(iteration)
            self._receive(signal.SIGTERM, None)
        return self.asked_by is not None

    monkeypatch.setattr(Interrupt, "_asked", asked)


@pytest.mark.parametrize(("iteration", "workers"), [(4, 0), (6, 0), (6, 2)], ids=str)
def test_a_resumed_training_ends_in_the_same_bits(
    balls, tmp_path, uninterrupted, monkeypatch, iteration, workers
):
    stop_at(iteration, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train("cell_tomo_unet3d", balls, tmp_path / "run", options(workers))
    stopped = json.loads((tmp_path / "run" / "run.json").read_text())

    run = resume(tmp_path / "run", TrainOptions(progress=False))

    assert (stopped["state"], stopped["iteration"]) == ("interrupted", iteration)
    assert weights(run) == weights(uninterrupted)
    assert losses(run) == losses(uninterrupted)


def test_another_seed_ends_in_other_bits(balls, tmp_path, uninterrupted):
    run = train("cell_tomo_unet3d", balls, tmp_path / "run", options(seed=8, epochs=1))

    first = losses(run)[0]["loss"]
    assert first != losses(uninterrupted)[0]["loss"]


def test_a_finished_training_is_not_begun_anew(uninterrupted):
    before = weights(uninterrupted)

    resume(uninterrupted, TrainOptions(progress=False))

    assert weights(uninterrupted) == before


def test_a_longer_training_goes_on_where_the_shorter_ended(balls, tmp_path):
    short = train("cell_tomo_unet3d", balls, tmp_path / "run", options(epochs=1))

    resume(short, TrainOptions(progress=False, epochs=2))

    assert [row["epoch"] for row in losses(short)] == [1, 2]


def test_a_run_folder_that_holds_something_is_refused(balls, uninterrupted):
    with pytest.raises(EnvironmentFault, match="`resume`"):
        train("cell_tomo_unet3d", balls, uninterrupted, options())


def test_there_must_be_a_run_to_resume(tmp_path):
    with pytest.raises(ConfigError, match="nothing to resume"):
        resume(tmp_path)


def test_a_broken_checkpoint_gives_way_to_the_one_before(uninterrupted, tmp_path):
    last = uninterrupted / "checkpoints" / "last.pt"
    good = Path(f"{last}.prev").read_bytes()
    (tmp_path / "last.pt").write_bytes(last.read_bytes()[:-200])
    (tmp_path / "last.pt.prev").write_bytes(good)

    with pytest.raises(Exception, match=r"last\.pt: "):
        read_state(tmp_path / "last.pt")
    assert read_state(tmp_path / "last.pt.prev")["iteration"] > 0


def test_the_model_scores_what_the_record_says(uninterrupted):
    record = json.loads((uninterrupted / "run.json").read_text())

    assert record["state"] == "completed"
    assert record["iteration"] == 12
    assert 0 < record["best_score"] <= 1
    assert set(record["data"]["content"]) == {"ball0", "ball1", "ball2"}
    assert record["cost"]["peak_gib"] > 0.05


@pytest.mark.parametrize(
    ("entry", "value", "key"),
    [
        ("dataloader", [[]], "validate::dataloader"),
        ("dataloader", [{"image": 1}], "validate::dataloader"),
        ("cases", [[]], "validate::dataset::cases::0 is"),
    ],
)
def test_a_validation_without_samples_is_refused(
    balls, tmp_path, uninterrupted, entry, value, key
):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    file = run / "configs" / "train.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if entry == "cases":
        config["validate"]["dataset"]["cases"] = value
    else:
        config["validate"][entry] = value
    file.write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(ConfigError, match=key):
        resume(run, TrainOptions(progress=False, epochs=4))


@pytest.mark.slow
def test_workers_end_soon_after_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        killed = time.monotonic()

        worker.wait(timeout=30)

    assert time.monotonic() - killed < 5


# Its worker is busy with a sample for a minute.
PARENT = """
import os, time
import torch
from cellseg3d.training.epochs import epoch_loader


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        print(os.getpid(), flush=True)
        time.sleep(60)


if __name__ == "__main__":
    next(iter(epoch_loader(Slow(), 1, workers=1)))
"""
