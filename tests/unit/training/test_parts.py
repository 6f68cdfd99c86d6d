"""Schedule, average, history, lock, patch, checkpoints by themselves."""

import json
import math
import os
import random
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.models.checkpoint import with_previous
from cellseg3d.models.training_state import read_state
from cellseg3d.runs.lock import RunLock
from cellseg3d.runs.patch import choose_patch
from cellseg3d.training.average import AveragedNetwork
from cellseg3d.training.checkpoints import Checkpoints
from cellseg3d.training.epochs import ResumableOrder
from cellseg3d.training.history import History
from cellseg3d.training.pictures import picture_across
from cellseg3d.training.schedule import Schedule
from cellseg3d.training.scores import VolumeScores, recall_of


def optimizer(rate=0.1):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)


def at(iteration, epochs=10, length=10):
    state = SimpleNamespace(
        iteration=iteration, max_epochs=epochs, epoch_length=length, epoch=1
    )
    return SimpleNamespace(state=state)


def test_the_rate_rises_falls_and_ends_low():
    schedule = Schedule(optimizer(), "cosine", warmup=0.1)

    rates = []
    for iteration in range(1, 101):
        schedule(at(iteration))
        rates.append(schedule.optimizer.param_groups[0]["lr"])

    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.1)
    assert np.argmax(rates) == 10
    assert rates[-1] < 0.002
    assert np.all(np.diff(rates[10:]) < 0)


def test_a_time_budget_brings_the_rate_down_on_any_machine():
    now = [0.0]
    schedule = Schedule(optimizer(), max_minutes=1, clock=lambda: now[0], warmup=0)

    now[0] = 30.0
    schedule(at(5, epochs=100000))
    halfway = schedule.optimizer.param_groups[0]["lr"]
    now[0] = 61.0
    schedule(at(9, epochs=100000))

    assert halfway == pytest.approx(0.0505)
    assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    assert schedule.done == 1.0


def test_a_resumed_budget_counts_the_minutes_before():
    now = [0.0]
    one = Schedule(optimizer(), max_minutes=1, clock=lambda: now[0])
    now[0] = 40.0
    other = Schedule(optimizer(), max_minutes=1, clock=lambda: now[0])

    other.load_state_dict(one.state_dict())
    now[0] = 45.0

    assert other.elapsed_s == pytest.approx(45.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shape": "linear"}, "shape"),
        ({"warmup": 1.0}, "warmup"),
        ({"max_minutes": 0}, "max_minutes"),
    ],
)
def test_a_schedule_refuses_what_makes_no_sense(changes, text):
    with pytest.raises(ConfigError, match=text):
        Schedule(optimizer(), **changes)


def test_the_average_is_the_mean_that_forgets():
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(0.0)
    average = AveragedNetwork(net, decay=0.5)
    average(None)
    net.weight.data.fill_(1.0)

    average(None)
    average(None)

    # keep = min(.5, (1 + n) / (10 + n)) with n = 1, 2: 2/11, 3/12.
    expected = 1 - (2 / 11) * (3 / 12)
    assert average.module.weight.item() == pytest.approx(expected)


def test_nan_is_never_the_best_and_a_worse_score_never_replaces_it(tmp_path):
    history = History(tmp_path / "history.json")

    answers = [history.add_scores(i, s, {}) for i, s in enumerate([math.nan, 0.4, 0.3])]
    again = History()
    again.load_state_dict(history.state_dict())

    assert answers == [False, True, False]
    assert (again.best_score, again.best_iteration) == (0.4, 1)
    assert again.stale_epochs == 1
    assert not again.add_scores(3, 0.35, {})
    assert json.loads((tmp_path / "history.json").read_text())[0]["score"] is None


def test_a_folder_belongs_to_one_run(tmp_path):
    parent = os.getppid()
    owner = {"host": socket.gethostname(), "pid": parent, "started": "then"}
    (tmp_path / ".lock").write_text(json.dumps(owner), encoding="utf-8")

    with pytest.raises(EnvironmentFault, match=f"in use by process {parent}"):
        RunLock(tmp_path).acquire()

    assert json.loads((tmp_path / ".lock").read_text(encoding="utf-8")) == owner


def test_a_process_may_hold_its_folder_twice(tmp_path):
    with RunLock(tmp_path):
        with RunLock(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()

    assert not (tmp_path / ".lock").exists()


def test_a_dead_run_leaves_its_folder_free(tmp_path):
    pid = os.fork()
    if pid == 0:
        RunLock(tmp_path).acquire()
        os._exit(0)
    os.waitpid(pid, 0)
    assert (tmp_path / ".lock").exists()

    with RunLock(tmp_path):
        owner = json.loads((tmp_path / ".lock").read_text())

    assert owner["pid"] == os.getpid()


def test_another_hosts_lock_is_never_taken(tmp_path):
    owner = {"host": "elsewhere", "pid": 1, "started": "then"}
    (tmp_path / ".lock").write_text(json.dumps(owner))

    with pytest.raises(EnvironmentFault, match="elsewhere since then"):
        RunLock(tmp_path).acquire()


def test_an_epoch_may_begin_in_the_middle_once():
    order = ResumableOrder(10, 3)
    order.skip = 2

    first, second = list(order), list(order)

    assert first == [[6, 7, 8]]
    assert second == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize(
    ("dims", "shape", "spacing", "expected"),
    [
        (3, (400, 400, 400), (1, 1, 1), (80, 80, 80)),
        (3, (20, 1024, 1024), (50, 4.6, 4.6), (16, 176, 176)),
        (3, (32, 32, 32), None, (32, 32, 32)),
        (2, (20, 1024, 100), None, (256, 96)),
        (3, (5, 64, 64), None, (5, 64, 64)),
    ],
)
def test_a_patch_fits_and_is_as_long_on_each_side(dims, shape, spacing, expected):
    spec = InputSpec(dims, (8,) * dims)

    assert choose_patch(spec, [shape], spacing) == expected


def test_pictures_show_errors_in_red_and_the_unknown_in_grey():
    image = torch.rand(4, 6, 8)
    label = torch.zeros(4, 6, 8)
    label[:, :3] = 1
    label[:, 5] = 255
    predicted = torch.ones(4, 6, 8)

    picture = picture_across(image, label, predicted, 0)

    assert picture.shape == (6, 32, 3)
    assert (picture[3:5, 24:] == (255, 0, 0)).all()
    assert not (picture[:3, 24:] == (255, 0, 0)).all(-1).any()
    assert (picture[5, 8:16] == 128).all()


def test_scores_leave_out_what_is_not_annotated():
    scores = VolumeScores({"classes": ["background", "one", "two"]})
    truth = torch.tensor([[[[0, 1, 1, 255]]]], dtype=torch.float32)
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 0, 2]]]), 3)

    scores.add("a", logits.movedim(-1, 0).float(), truth)

    assert scores.table["a"]["one"] == pytest.approx(2 / 3)
    assert math.isnan(scores.table["a"]["two"])
    assert scores.mean == pytest.approx(2 / 3)


class Counter:
    """A state that changes with every save."""

    def __init__(self):
        self.tensor = torch.zeros(200_000)

    def state_dict(self):
        return {"tensor": self.tensor}

    def load_state_dict(self, state):
        self.tensor = state["tensor"]


def save_for_ever(folder):
    """Save until killed; each checkpoint holds its own number everywhere."""
    part = Counter()
    checkpoints = Checkpoints(folder / "last.pt", {"part": part})
    engine = at(0)
    while True:
        engine.state.iteration += 1
        part.tensor.fill_(engine.state.iteration)
        checkpoints.save(engine)


def kill_while_saving(folder, kills):
    random_ = random.Random(0)
    checkpoints = Checkpoints(folder / "last.pt", {"part": Counter()})
    checkpoints.save(at(0))
    for _ in range(kills):
        pid = os.fork()
        if pid == 0:
            save_for_ever(folder)
        time.sleep(random_.uniform(0.005, 0.06))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        content, warning = with_previous(folder / "last.pt", read_state)
        values = content["state"]["part"]["tensor"].unique().tolist()
        assert values == [content["iteration"]]
        assert warning == ""


def test_twenty_kills_during_a_save_lose_nothing(tmp_path):
    kill_while_saving(tmp_path, 20)


@pytest.mark.slow
def test_two_hundred_kills_during_a_save_lose_nothing(tmp_path):
    kill_while_saving(tmp_path, 200)


def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(tmp_path, monkeypatch):
    part = Counter()
    checkpoints = Checkpoints(tmp_path / "last.pt", {"part": part})
    checkpoints.save(at(3))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EnvironmentFault, match="disk full"):
        checkpoints.save(at(4))

    assert read_state(tmp_path / "last.pt")["iteration"] == 3


def test_recall_is_told_by_size_and_forgives_the_unannotated():
    truth = np.zeros((4, 40, 40), np.uint8)
    predicted = np.zeros_like(truth)
    truth[1, 2:4, 2:4] = 1  # small, missed
    truth[1:3, 10:16, 10:16] = predicted[1:3, 10:16, 10:15] = 1  # found
    truth[:, 20:34, 20:34] = predicted[:, 20:34, 20:34] = 1  # found
    predicted[3, 36:, :] = 1
    truth[3, 36:, :] = 255

    rows = recall_of(predicted, truth, 1)

    assert [row["size"] for row in rows] == ["small", "middle", "large"]
    assert [(row["n"], row["recall"]) for row in rows] == [(1, 0), (1, 1), (1, 1)]
