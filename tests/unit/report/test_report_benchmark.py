"""A benchmark's page shows means over specimens, costs, and what is missing."""

import json

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.report.benchmark_folder import (
    benchmark_sections,
    left_out,
    read_benchmark,
    unit_scores,
)


def record(method, seed, dice, *, seconds=2.0, state="done"):
    volumes = {
        f"v{index}": {"unit": f"s{index // 2}", "scores": {"dice": value}}
        for index, value in enumerate(dice)
    }
    return {
        "key": f"{method}-{seed}",
        "dataset": "cells",
        "target": "nucleus",
        "method": method,
        "seed": seed,
        "state": state,
        "reason": "" if state == "done" else "no <such> tool",
        "volumes": volumes,
        "training": {"elapsed_s": 60.0, "peak_gib": 1.0},
        "prediction": {"elapsed_s": seconds, "peak_gib": 2.0},
        "parameters": 1234567,
        "versions": {"torch": "2.13"},
    }


@pytest.fixture
def folder(tmp_path):
    rows = [
        record("2D", 0, [0.8, 0.6, 0.5, None]),
        record("2D", 1, [0.6, 0.8, 0.7, 0.6]),
        record("3D", 0, [0.9, 0.9, 0.8, 0.8], seconds=9.0),
        record("peer", 0, [], state="skipped"),
    ]
    (tmp_path / "records").mkdir()
    for row in rows:
        path = tmp_path / "records" / f"{row['key']}.json"
        path.write_text(json.dumps(row))
    return tmp_path


def test_folds_and_seeds_of_a_specimen_count_once(folder):
    records = read_benchmark(folder).methods("cells")["2D"]

    assert unit_scores(records, "dice") == pytest.approx({"s0": 0.7, "s1": 0.6})
    assert all(np.isnan(each) for each in unit_scores(records, "object_f1").values())


def test_the_table_has_means_and_costs(folder):
    (section,) = benchmark_sections(read_benchmark(folder))

    head, rows = section["table"]["head"], section["table"]["rows"]
    first = dict(zip(head, rows[0], strict=True))
    assert first["method"] == "2D"
    assert first["Dice"] == "0.650"
    assert (first["n"], first["seeds"]) == ("2", "2")
    assert first["training (min)"] == "1.000"
    assert first["peak (GiB)"] == "2.000"
    assert "object F1" not in head
    assert "too few" in " ".join(section["notes"])


def test_what_was_skipped_is_named(folder):
    assert left_out(read_benchmark(folder)) == [
        ("cells, peer, seed 0", "no <such> tool")
    ]


def test_the_page_of_a_benchmark(folder, tmp_path):
    out = tmp_path / "page.html"

    code = main(["report", str(folder), "--out", str(out)])

    text = out.read_text()
    assert code == 0
    assert "1,234,567" in text
    assert "no &lt;such&gt; tool" in text
    # Faster or better: neither beats the other; at equal memory, 3D does.
    assert text.count("dot c1") == 3
