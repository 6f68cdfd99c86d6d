import math

import pytest
import torch
from monai import losses as monai_losses
from monai.data import MetaTensor

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.models.losses import (
    CrossEntropyLoss,
    DiceCELoss,
    DiceLoss,
    FocalLoss,
    LogDiceLoss,
    TverskyLoss,
)

ALL = [
    DiceLoss(),
    DiceLoss(include_background=False, batch=False, class_weights=[1, 2, 3]),
    LogDiceLoss(),
    LogDiceLoss(power=0.3),
    TverskyLoss(),
    TverskyLoss(power=0.75),
    CrossEntropyLoss(class_weights=[1, 2, 3]),
    FocalLoss(),
    DiceCELoss(),
    DiceCELoss(include_background=False, class_weights=[1, 2, 3]),
]


def example(*size, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, 3, *size, generator=generator)
    label = torch.randint(0, 3, (2, 1, *size), generator=generator)
    return logits.requires_grad_(), label


def two_voxels():
    """Probabilities of class 1: .8 where it is class 1, .3 where it is class 0."""
    probs = torch.tensor([[[0.2, 0.7], [0.8, 0.3]]]).reshape(1, 2, 1, 2)
    return probs.log(), torch.tensor([1, 0]).reshape(1, 1, 1, 2)


def test_golden_values_worked_out_by_hand():
    logits, label = two_voxels()
    dice_0, dice_1 = 2 * 0.7 / (0.9 + 1), 2 * 0.8 / (1.1 + 1)
    tversky = (0.7 / (0.7 + 0.3 * 0.2 + 0.7 * 0.3), 0.8 / (0.8 + 0.3 * 0.3 + 0.7 * 0.2))
    expected = {
        DiceLoss(): 1 - (dice_0 + dice_1) / 2,
        DiceLoss(include_background=False): 1 - dice_1,
        DiceLoss(class_weights=[1, 3]): 1 - (dice_0 + 3 * dice_1) / 4,
        LogDiceLoss(): -(math.log(dice_0) + math.log(dice_1)) / 2,
        TverskyLoss(): 1 - sum(tversky) / 2,
        CrossEntropyLoss(): -(math.log(0.8) + math.log(0.7)) / 2,
        CrossEntropyLoss(class_weights=[1, 3]): -(3 * math.log(0.8) + math.log(0.7))
        / 4,
        FocalLoss(): -(0.2**2 * math.log(0.8) + 0.3**2 * math.log(0.7)) / 2,
    }

    for loss, value in expected.items():
        assert loss(logits, label).item() == pytest.approx(value, abs=2e-5)


@pytest.mark.parametrize("size", [(8, 9), (5, 6, 7)])
@pytest.mark.parametrize(
    ("ours", "theirs", "factor"),
    [
        (
            DiceLoss(),
            monai_losses.DiceLoss(to_onehot_y=True, softmax=True, batch=True),
            1,
        ),
        (
            DiceLoss(include_background=False, batch=False),
            monai_losses.DiceLoss(
                to_onehot_y=True, softmax=True, include_background=False
            ),
            1,
        ),
        (
            DiceCELoss(),
            monai_losses.DiceCELoss(to_onehot_y=True, softmax=True, batch=True),
            1,
        ),
        (
            TverskyLoss(false_alarm=0.3, miss=0.7),
            monai_losses.TverskyLoss(
                to_onehot_y=True, softmax=True, alpha=0.3, beta=0.7, batch=True
            ),
            1,
        ),
        # MONAI also divides by the number of classes.
        (
            FocalLoss(),
            monai_losses.FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0),
            3,
        ),
    ],
)
def test_equal_to_monai_when_all_is_annotated(ours, theirs, factor, size):
    logits, label = example(*size)

    expected = factor * theirs(logits, label)

    torch.testing.assert_close(ours(logits, label), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ALL)
def test_unannotated_voxels_have_no_gradient_and_no_say(loss):
    logits, label = example(6, 7)
    label[0, :, :3] = 255
    label[1, :, :, 5] = 255
    hidden = (label == 255).expand_as(logits)
    other = torch.where(hidden, torch.randn_like(logits) * 1e4, logits).detach()
    other[hidden] = float("nan")
    other.requires_grad_()

    value, same = loss(logits, label), loss(other, label)
    value.backward()
    same.backward()

    assert torch.equal(value, same)
    assert torch.equal(logits.grad, other.grad)
    assert (logits.grad[hidden] == 0).all()
    assert (logits.grad[~hidden] != 0).any()


@pytest.mark.parametrize("loss", ALL)
def test_nothing_annotated_gives_zero(loss):
    logits, label = example(4, 5)

    value = loss(logits, torch.full_like(label, 255))
    value.backward()

    assert value.item() == pytest.approx(0, abs=0.02)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_finite_at_both_ends_and_in_bf16(loss, scale):
    logits, label = example(5, 6, scale=scale)
    label[label == 2] = 1

    low = logits.detach().bfloat16().requires_grad_()
    value, value_low = loss(logits, label), loss(low, label)
    value.backward()
    value_low.backward()

    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(low.grad).all()
    assert value_low.dtype is torch.float32
    torch.testing.assert_close(value_low, value, rtol=0.03, atol=0.01)


@pytest.mark.parametrize("loss", ALL)
def test_gradient_is_that_of_finite_differences(loss):
    logits, label = example(3, 3)
    label[0, 0, 0, 0] = 255
    loss(logits, label).backward()
    step = torch.zeros_like(logits)
    step[1, 1, 2, 1] = 1e-2

    with torch.no_grad():
        slope = (loss(logits + step, label) - loss(logits - step, label)) / 2e-2

    torch.testing.assert_close(logits.grad[1, 1, 2, 1], slope, rtol=2e-2, atol=2e-5)


@pytest.mark.parametrize("loss", ALL)
def test_every_loss_teaches(loss):
    logits, label = example(4, 4, seed=3)
    free = logits.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([free], lr=0.1)

    for _ in range(150):
        optimiser.zero_grad()
        loss(free, label).backward()
        optimiser.step()

    counted = label[:, 0] > 0 if not is_counting_background(loss) else label[:, 0] >= 0
    assert (free.argmax(1) == label[:, 0])[counted].float().mean() > 0.95


def is_counting_background(loss):
    over_classes = getattr(loss, "over_classes", None)
    return over_classes is None or over_classes.include_background


def test_classes_not_annotated_join_the_background():
    logits, label = example(4, 5)
    label[0][label[0] == 2] = 0
    annotated = [[True, True, False], [True, True, True]]
    probs = logits.detach()[0].softmax(0)
    merged = torch.stack([probs[0] + probs[2], probs[1]])
    truth = label[0, 0]
    first = -merged.gather(0, truth[None])[0].log()
    second = -logits.detach()[1].log_softmax(0).gather(0, label[1])[0]

    value = CrossEntropyLoss()(logits, label, annotated)

    assert value.item() == pytest.approx((first.sum() + second.sum()).item() / 40, 1e-5)


@pytest.mark.parametrize("loss", ALL)
def test_partial_labels_do_not_punish_the_class_nobody_drew(loss):
    label = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    label[..., :2] = 1
    logits = torch.full((1, 3, 4, 4), -8.0)
    logits[:, 1, :, :2] = 8
    logits[:, 2, :, 2:] = 8
    logits.requires_grad_()

    value = loss(logits, label, [[True, True, False]])
    value.backward()

    assert value.item() < 0.02
    assert torch.isfinite(logits.grad).all()
    assert loss(logits, label).item() > 0.1


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float32])
def test_label_types_are_all_one(kind):
    logits, label = example(4, 5)
    label[0, 0, 0] = 255

    assert torch.equal(
        DiceCELoss()(logits, label.to(kind)), DiceCELoss()(logits, label)
    )


def test_monai_tensors_give_the_same_plain_number():
    logits, label = example(4, 5)

    value = DiceCELoss()(MetaTensor(logits), MetaTensor(label))
    value.backward()

    assert type(value) is torch.Tensor
    assert torch.equal(value, DiceCELoss()(logits, label))
    assert logits.grad.abs().sum() > 0


def test_wrong_labels_are_named():
    logits, label = example(4, 5)

    with pytest.raises(LabelError, match=r"holds 7.*3 classes"):
        DiceCELoss()(logits, label.where(label != 1, 7))
    with pytest.raises(LabelError, match="same size"):
        DiceCELoss()(logits, label[..., :3])
    with pytest.raises(ConfigError, match=r"2 numbers.*3 classes"):
        DiceCELoss(class_weights=[1, 2])(logits, label)
