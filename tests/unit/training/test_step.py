"""One NaN must not poison a network."""

import math

import pytest
import torch
from monai.engines import SupervisedTrainer
from processor import needs_bfloat16
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cellseg3d.core.errors import NonFiniteError
from cellseg3d.training.precision import AutocastInferer, training_dtype
from cellseg3d.training.step import TrainingStep, skipped_batches


class Batches(Dataset):
    """Twelve images; those named are broken."""

    def __init__(self, bad):
        self.bad = bad

    def __len__(self):
        return 12

    def __getitem__(self, index):
        image = torch.full((1, 4, 4), 0.1 * index)
        if index in self.bad:
            image[0, 1, 2] = math.nan
        label = torch.ones(1, 4, 4)
        return {"image": image, "label": label, "case": f"case{index}", "position": 3}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))


def trainer(bad, folder, net, loss=None):
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Batches(bad), batch_size=2),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loss_function=loss
        or (lambda logits, _label: (logits**2).mean() + logits.sum()),
        inferer=AutocastInferer("float32"),
        iteration_update=TrainingStep(folder),
        decollate=False,
    )


def test_a_broken_batch_changes_nothing_and_is_named(tmp_path):
    net = network()
    engine = trainer({5}, tmp_path, net)

    engine.run()

    skipped = skipped_batches(engine)
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    assert len(skipped) == 1
    assert "case4 at (3), case5 at (3)" in skipped[0]
    kept = torch.load(next(tmp_path.glob("*.pt")), weights_only=True)
    assert int(torch.isnan(kept["image"]).sum()) == 1


def test_a_step_before_and_after_a_broken_batch_is_made(tmp_path):
    clean, broken = network(), network()
    seen = []

    def loss(logits, _label):
        seen.append(float(logits.detach().sum()))
        return logits.sum()

    trainer({5}, tmp_path, broken, loss).run()

    assert len(seen) == 5
    assert any(
        not torch.equal(a, b)
        for a, b in zip(clean.parameters(), broken.parameters(), strict=True)
    )


def test_statistics_survive_an_infinite_loss(tmp_path):
    net = network()
    calls = []

    def loss(logits, _label):
        calls.append(1)
        return logits.sum() * (math.inf if len(calls) == 2 else 1)

    engine = trainer(set(), tmp_path, net, loss)
    engine.run()

    assert len(skipped_batches(engine)) == 1
    # Six batches, of which one left no trace.
    assert int(net[1].num_batches_tracked) == 5


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_three_broken_batches_in_a_row_end_the_training(tmp_path):
    engine = trainer({4, 6, 8}, tmp_path, network())

    with pytest.raises(NonFiniteError, match=r"case8.*learning rate"):
        engine.run()


@needs_bfloat16
def test_half_precision_works_on_a_cpu():
    seen = []

    class Spy(nn.Conv2d):
        def forward(self, image):
            answer = super().forward(image)
            seen.append(answer.dtype)
            return answer

    logits = AutocastInferer("bfloat16")(torch.ones(1, 1, 4, 4), Spy(1, 2, 1))

    assert seen == [torch.bfloat16]
    assert logits.dtype == torch.float32


def test_precision_must_be_known():
    with pytest.raises(Exception, match="expected one of auto"):
        training_dtype("half", "cpu")
