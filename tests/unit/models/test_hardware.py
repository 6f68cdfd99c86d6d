import re

import pytest
import torch

from cellseg3d.core import user_cache
from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.models import apple_gpu, hardware
from cellseg3d.models.hardware import can_bfloat16, choose_hardware, find_device
from cellseg3d.training.precision import training_dtype
from cellseg3d.training.processes import choose_device

CHOICES = (find_device, choose_device)


@pytest.fixture
def apple(monkeypatch):
    """Be a computer with an Apple GPU, whose convolutions are right."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    checked = []
    monkeypatch.setattr(hardware, "require_right_convolutions", checked.append)
    return checked


def test_words_for_hardware_are_checked():
    assert choose_hardware("cpu", "float32").dtype is torch.float32
    with pytest.raises(ConfigError, match="precision 'half'"):
        choose_hardware("cpu", "half")


@pytest.mark.parametrize("choose", CHOICES)
@pytest.mark.parametrize("name", ["tpu", "cpu:x", "auto:1", "meta", ""])
def test_an_unknown_device_is_refused_with_those_that_are_known(choose, name):
    known = re.escape(f"device {name!r}; expected one of auto, cpu, cuda, mps")

    with pytest.raises(ConfigError, match=known):
        choose(name)


@pytest.mark.parametrize("choose", CHOICES)
def test_a_gpu_that_is_not_there_is_refused(choose, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert choose("auto") == torch.device("cpu")
    with pytest.raises(EnvironmentFault, match="'mps': torch finds no Apple GPU"):
        choose("mps")
    with pytest.raises(EnvironmentFault, match="'cuda:1': torch finds no CUDA GPU"):
        choose("cuda:1")


@pytest.mark.parametrize("choose", CHOICES)
def test_the_number_of_a_gpu_must_exist(choose, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert choose("cuda:1") == torch.device("cuda:1")
    with pytest.raises(EnvironmentFault, match=r"'cuda:2'.* is 'cuda:1'"):
        choose("cuda:2")


@pytest.mark.parametrize("choose", CHOICES)
def test_an_apple_gpu_is_taken_when_asked_for_and_checked(choose, apple):
    assert choose("auto") == torch.device("cpu")
    assert apple == []

    assert choose("mps") == torch.device("mps")
    assert choose("mps:0") == torch.device("mps:0")
    assert apple == [torch.device("mps")] * 2


@pytest.mark.usefixtures("apple")
def test_an_apple_gpu_computes_in_float32():
    assert choose_hardware("mps").precision == "float32"
    assert choose_hardware("mps", "float32").device == torch.device("mps")
    with pytest.raises(EnvironmentFault, match="mps cannot compute in it"):
        choose_hardware("mps", "bfloat16")
    with pytest.raises(EnvironmentFault, match="'int8' runs on the CPU"):
        choose_hardware("mps", "int8")


def test_right_convolutions_pass():
    found = dict(apple_gpu.convolution_differences(torch.device("cpu")))

    assert len(found) == 6
    assert max(found.values()) < 1e-5


@pytest.mark.parametrize("wrong", [0.99, float("nan")])
def test_wrong_convolutions_are_refused_and_named(wrong, monkeypatch):
    real = torch.conv3d

    def conv3d(image, weight, **options):
        last = image.shape[1] == 8 and not image.is_contiguous()
        return real(image, weight, **options) * (wrong if last else 1.0)

    monkeypatch.setattr(torch, "conv3d", conv3d)
    apple_gpu.require_right_convolutions.cache_clear()
    with pytest.raises(EnvironmentFault, match="'cpu': its 3D convolution of 8 to 16"):
        apple_gpu.require_right_convolutions(torch.device("cpu"))


@pytest.mark.parametrize(
    ("gain", "precision", "reason"),
    [
        (0.6, "float32", "the processor is slower in bfloat16"),
        (1.7, "bfloat16", "the processor is faster in bfloat16"),
    ],
)
def test_a_processor_computes_in_the_format_in_which_it_is_faster(
    gain, precision, reason, monkeypatch
):
    monkeypatch.setattr(hardware, "multiplies_bfloat16", lambda _: True)
    monkeypatch.setattr(hardware, "_kept_gain", lambda: gain)

    chosen = choose_hardware("cpu")

    assert (chosen.precision, chosen.reason) == (precision, reason)
    assert training_dtype("auto", "cpu") is chosen.dtype


def test_a_processor_without_bfloat16_is_not_measured(monkeypatch):
    monkeypatch.setattr(hardware, "multiplies_bfloat16", lambda _: False)
    monkeypatch.setattr(hardware, "_kept_gain", lambda: 1 / 0)

    assert choose_hardware("cpu").reason == "the processor has no bfloat16 arithmetic"


@pytest.mark.skipif(not can_bfloat16(torch.device("cpu")), reason="it cannot compute")
def test_the_gain_of_bfloat16_is_that_of_the_shortest_times(monkeypatch):
    clock = iter([0.0, 4.0, 0.0, 1.0, 0.0, 3.0, 0.0, 2.0] + [0.0, 9.0] * 8)
    monkeypatch.setattr(hardware.time, "process_time", lambda: next(clock))

    assert hardware.bfloat16_gain() == 3.0  # 3 s in float32, 1 s in bfloat16


@pytest.mark.parametrize("damage", [None, "{", "[1]", '{"a": 1}'])
def test_a_processor_is_measured_once_for_all_processes(damage, monkeypatch, tmp_path):
    monkeypatch.setattr(user_cache, "user_cache", lambda: tmp_path / "cache")
    gains = iter([0.5, 2.0])
    monkeypatch.setattr(hardware, "bfloat16_gain", lambda: next(gains))
    found = []

    for _ in range(2):
        hardware._kept_gain.cache_clear()  # as in another process
        found.append(hardware._kept_gain())
        if damage is not None:
            (tmp_path / "cache" / "bfloat16_gain.json").write_text(damage)

    hardware._kept_gain.cache_clear()
    assert found == ([0.5, 0.5] if damage is None else [0.5, 2.0])


def test_a_cache_that_cannot_be_written_is_no_fault(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(user_cache, "user_cache", lambda: tmp_path / "file" / "cache")

    user_cache.keep("speeds", "one", 1.0)

    assert user_cache.kept("speeds") == {}
