"""A state that does not fit is refused before torch takes it."""

import copy

import pytest
import torch
from ignite.engine import Engine, Events

from cellseg3d.core.errors import FormatError
from cellseg3d.models.training_state import load_state, save_state
from cellseg3d.training.checkpoints import Checkpoints
from cellseg3d.training.history import History
from cellseg3d.training.saved_parts import check_fits


def trained():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return network, optimizer


def test_an_own_state_fits_before_and_after_the_first_step():
    network, optimizer = trained()
    fresh = torch.optim.AdamW(torch.nn.Linear(3, 2).parameters(), lr=0.5)

    check_fits(network.state_dict(), torch.nn.Linear(3, 2), "file")
    check_fits(optimizer.state_dict(), fresh, "file")
    check_fits(fresh.state_dict(), optimizer, "file")


def put(*path, value):
    def change(state):
        for key in path[:-1]:
            state = state[key]
        if value is None:
            del state[path[-1]]
        else:
            state[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("state", 0, "exp_avg", value=torch.zeros(5)),
        put("state", 0, "exp_avg", value=torch.zeros(2, 3, dtype=torch.float64)),
        put("state", 0, "exp_avg", value="x"),
        put("state", 0, "step", value=None),
        put("state", 7, value={}),
        put("state", value=[]),
        put("param_groups", 0, "params", value=[0, 0]),
        put("param_groups", 0, "params", value=[0]),
        put("param_groups", 0, "lr", value="x"),
        put("param_groups", 0, "capturable", value=True),
        put("param_groups", 0, "betas", value=None),
        put("param_groups", value=[]),
    ],
)
def test_a_state_that_would_fail_in_a_later_step_is_refused(change):
    _, optimizer = trained()
    state = copy.deepcopy(optimizer.state_dict())
    change(state)

    with pytest.raises(FormatError, match=r"^last\.pt: optimizer: "):
        check_fits(state, optimizer, "last.pt: optimizer")


def engine_of(parts, path, **options):
    engine = Engine(lambda _engine, _batch: 0.0)
    checkpoints = Checkpoints(path, parts, **options)
    checkpoints.attach(engine)
    return engine, checkpoints


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("iteration", value=True), "is no checkpoint of this training"),
        (put("iteration", value=-1), "is no checkpoint of this training"),
        (put("epoch_length", value="x"), "is no checkpoint of this training"),
        (put("state", "network", value=None), "needs the steps done and the states"),
        (put("state", "network", "bias", value=torch.zeros(9)), "network: bias: holds"),
        (put("state", "history", "rows", value="[1]"), "history: its rows"),
        (put("state", "history", "rows", value="{"), "history: Expecting"),
        (put("state", "history", "losses", value=["x"]), "history: losses: 0: holds"),
    ],
)
def test_a_checkpoint_with_a_right_hash_and_wrong_values_names_them(
    tmp_path, change, words
):
    network, optimizer = trained()
    parts = {"network": network, "optimizer": optimizer, "history": History()}
    path = tmp_path / "last.pt"
    engine, _ = engine_of(parts, path)
    engine.run([0, 0], max_epochs=1)
    values = load_state(path).values
    change(values)
    path.unlink()
    save_state(path, values)
    again, checkpoints = engine_of(parts, path, resume=True)

    again.add_event_handler(Events.STARTED, checkpoints.load)

    with pytest.raises(FormatError, match=words):
        again.run([0, 0], max_epochs=2)
