"""A benchmark's page shows its means, comparisons and costs, and what is missing."""

import json

import pytest

from cellseg3d.cli.main import main
from cellseg3d.report.benchmark_folder import (
    benchmark_sections,
    is_benchmark,
    left_out,
    read_benchmark,
)


def method(dice, seconds):
    summary = {"mean": dice, "low": dice - 0.1, "high": dice + 0.1, "sd": 0.1}
    summary |= {"n": 2, "n_undefined": 0, "note": "n = 2: too few"}
    empty = summary | {"mean": None, "n": 0}
    return {
        "units": {"dice": {"s0": dice - 0.05, "s1": dice + 0.05}},
        "scores": {"dice": summary, "hd95_um": summary | {"mean": "inf"}}
        | {"object_f1": empty},
        "seeds": [0, 1],
        "training": {"elapsed_s": 60.0, "peak_gib": 1.0},
        "prediction": {"elapsed_s": seconds, "peak_gib": 2.0},
        "parameters": 1234567,
    }


@pytest.fixture
def folder(tmp_path):
    pair = {"method": "3D", "against": "2D", "difference": 0.2, "low": 0.1}
    pair |= {"high": 0.3, "n": 2, "p_permutation": 0.5, "p_holm": 1.0, "note": ""}
    facts = {
        "target": "nucleus",
        "methods": {"2D": method(0.65, 2.0), "3D": method(0.85, 9.0)},
        "comparison": [pair],
        "warnings": ["one specimen"],
    }
    skipped = {"key": "cells-peer", "state": "skipped", "reason": "no <such> tool"}
    values = {"datasets": {"cells": facts}, "incomplete": [skipped]}
    values["versions"] = {"torch": ["2.13", "2.14"]}
    (tmp_path / "benchmark.json").write_text(json.dumps(values))
    return tmp_path


def test_the_table_has_means_and_costs(folder):
    (section,) = benchmark_sections(read_benchmark(folder))

    first = dict(
        zip(section["table"]["head"], section["table"]["rows"][0], strict=True)
    )
    assert first["method"] == "2D"
    assert first["Dice"] == "0.650"
    assert first["HD95 (um)"] == "inf"  # A miss is no small distance.
    assert (first["n"], first["seeds"]) == ("2", "2")
    assert first["training (min)"] == "1.000"
    assert first["peak (GiB)"] == "2.000"
    assert "object F1" not in first
    assert section["notes"] == ["n = 2: too few", "one specimen"]


def test_comparisons_are_repeated_as_they_are(folder):
    (section,) = benchmark_sections(read_benchmark(folder))

    (row,) = section["comparison"]["rows"]
    assert row == ["3D", "2D", "0.200", "0.100 to 0.300", "2", "0.500", "1.000"]


def test_what_was_skipped_is_named(folder):
    found = left_out(read_benchmark(folder))

    assert found == [("cells-peer (skipped)", "no <such> tool")]


def test_the_page_of_a_benchmark(folder, tmp_path):
    out = tmp_path / "page.html"

    code = main(["report", str(folder), "--out", str(out)])

    text = out.read_text()
    assert is_benchmark(folder)
    assert code == 0
    assert "1,234,567" in text
    assert "2.13, 2.14" in text
    assert "no &lt;such&gt; tool" in text
    assert "whisker" not in text.partition("<main>")[2].partition("<script")[0]
    # Faster or better: neither beats the other; at equal memory, 3D does.
    assert text.count("dot c1") == 3
