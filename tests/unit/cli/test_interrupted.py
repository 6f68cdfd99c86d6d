"""Ctrl-C ends a command, wherever it comes."""

import sys

import pytest

from cellseg3d.cli import main as module
from cellseg3d.cli.main import INTERRUPTED, main


def test_demo_ends_with_the_step_that_was_interrupted(tmp_path, monkeypatch, capsys):
    typed = []

    def run(words):
        typed.append(words[0])
        if words[0] in ("demo", "simulate"):
            return real(words)
        return INTERRUPTED if words[0] == "predict" else 0

    real = module.run
    monkeypatch.setattr(module, "run", run)

    small = ["--shape", "24", "--n", "1"]

    code = main(["demo", "--out", str(tmp_path / "demo"), *small])

    assert code == INTERRUPTED
    assert typed == ["demo", "simulate", "predict"]
    assert "interrupted" in capsys.readouterr().err


def test_an_import_that_wraps_the_interrupt_is_no_fault_of_ours(monkeypatch, capsys):
    def run(_words):
        try:
            raise KeyboardInterrupt  # noqa: TRY301
        except KeyboardInterrupt as error:
            raise ImportError("a library could not be loaded") from error

    monkeypatch.setattr(module, "run", run)

    assert main(["inspect", "x"]) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_an_error_that_is_its_own_cause_is_told(monkeypatch, capsys):
    def run(_words):
        error = RuntimeError("round")
        error.__cause__ = ValueError("and round")
        error.__cause__.__cause__ = error
        raise error

    monkeypatch.setattr(module, "run", run)

    assert main(["inspect", "x"]) == 1
    assert "round" in capsys.readouterr().err


def test_telemetry_is_off_before_what_would_send_it_is_imported(monkeypatch):
    pytest.importorskip("openvino")
    from cellseg3d.acceleration import openvino_network  # noqa: PLC0415

    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    seen = []
    monkeypatch.setattr(
        openvino_network.importlib,
        "import_module",
        lambda name: seen.append((name, sys.modules["openvino_telemetry"])),
    )

    openvino_network._import("nncf")

    assert seen == [("nncf", None)]
