"""Means, pairs and pictures from records alone."""

import json
import math

import pytest

from cellseg3d.benchmark.markdown import markdown
from cellseg3d.benchmark.picture import draw_curves, draw_pareto, pareto_front
from cellseg3d.benchmark.record import Record, read_records, write_record
from cellseg3d.benchmark.summary import compare, summarise_study, unit_scores
from cellseg3d.core.errors import ConfigError

PAIRS = [("3D", "2D"), ("fused", "2D")]


def record(method, seed, dice, *, dataset="cells", state="done", hd95=0.1, end=()):
    curve = [
        {"share": (n + 1) / len(end), "spent_s": 9.0, "steps": n, "dice": v}
        | {"mean_dice": v}
        for n, v in enumerate(end)
    ]
    return Record(
        key=f"{dataset}_{method}_fold0_seed{seed}",
        study="s",
        dataset=dataset,
        target="nucleus",
        method=method,
        fold=0,
        seed=seed,
        recipe={"minutes": 2.0, "clock": "cpu"},
        state=state,
        reason="" if state == "done" else "disk full",
        volumes={
            name: {
                "unit": name,
                "scores": {"dice": value, "hd95_um": hd95},
                "classes": {"nucleus": value, "shell": 0.5},
            }
            for name, value in dice.items()
        },
        curve=curve,
        training={"elapsed_s": 130.0, "cpu_s": 250.0, "peak_gib": 1.5, "steps": 10}
        | {"voxels": 3_000_000},
        prediction={"elapsed_s": 9, "cpu_s": 8, "peak_gib": 2.5, "volumes_s": 3.0},
        parameters=1000,
        warnings=["quadrants touch"],
    )


def test_seeds_are_averaged_before_volumes():
    records = [
        record("2D", 0, {"a": 0.2, "b": 0.5}),
        record("2D", 1, {"a": 0.4, "b": None}),
    ]

    units = unit_scores(records, "dice")

    assert units == pytest.approx({"a": 0.3, "b": 0.5})


def test_volumes_of_one_specimen_count_once():
    one = record("2D", 0, {"a": 0.2, "b": 0.4, "c": 0.9})
    one.volumes["a"]["unit"] = one.volumes["b"]["unit"] = "fly"

    units = unit_scores([one], "dice")

    assert units == pytest.approx({"fly": 0.3, "c": 0.9})


def test_methods_are_paired_by_volume_and_corrected_for_their_number():
    base = {f"v{i}": 0.5 + 0.01 * i for i in range(7)}
    better = {
        name: value + 0.1 + 0.001 * i for i, (name, value) in enumerate(base.items())
    }
    mixed = {
        name: value + 0.1 * (-1) ** i for i, (name, value) in enumerate(base.items())
    }

    rows = compare(
        {"base": base, "better": better, "mixed": mixed},
        [("better", "base"), ("mixed", "base"), ("gone", "base")],
    )

    first, second = rows
    assert first["method"] == "better"
    assert first["difference"] == pytest.approx(0.103)
    # All seven differences have one sign: 2 of 2^7 patterns are as extreme.
    assert first["p_permutation"] == pytest.approx(2 / 2**7)
    assert first["p_holm"] == pytest.approx(2 * 2 / 2**7)
    assert second["p_holm"] >= second["p_permutation"] > 0.3


def test_only_volumes_that_both_have_are_paired():
    rows = compare(
        {"x": {"a": 0.9, "b": 0.8}, "ref": {"b": 0.5, "c": 0.1}}, [("x", "ref")]
    )

    assert rows[0]["n"] == 1
    assert rows[0]["difference"] == pytest.approx(0.3)


def test_the_report_says_n_points_warnings_failures_and_that_pairs_are_too_few():
    records = [
        record("2D", 0, {"a": 0.50, "b": 0.60, "c": 0.70}),
        record("3D", 0, {"a": 0.61, "b": 0.71, "c": 0.81}),
        record("fused", 0, {}, state="failed"),
    ]

    summary = summarise_study(records, ["2D", "3D", "fused"], PAIRS)
    text = markdown("Title", "Which?", summary)

    row = next(line for line in text.splitlines() if line.startswith("| 3D |"))
    assert [cell.strip() for cell in row.split("|")][2].startswith("0.710 [")
    assert "| 3 |" in row
    assert "| 3D | 0.610 | 0.710 | 0.810 |" in text
    assert "| 3D minus 2D | +0.110 |" in text
    assert "cannot reach p < .05 (the least possible p is 0.25)" in text
    assert "> quadrants touch" in text
    assert "- cells_fused_fold0_seed0: failed: disk full" in text
    assert "Budget: 2 min of training in processor time" in text


STILL = [0.5, 0.8, 0.81, 0.81]
RISING = [0.1, 0.2, 0.4, 0.6]


def test_no_conclusion_is_drawn_about_a_method_that_was_still_rising():
    records = [
        record("2D", 0, {"a": 0.9, "b": 0.8}, end=STILL),
        record("3D", 0, {"a": 0.6, "b": 0.5}, end=RISING),
        record("fused", 0, {"a": 0.9, "b": 0.9}),
    ]
    records[2].recipe["method"] = {"of": ["2D", "3D"]}

    summary = summarise_study(records, ["2D", "3D", "fused"], PAIRS)
    text = markdown("T", "Q", summary)

    methods = summary["datasets"]["cells"]["methods"]
    trends = {name: facts["trend"] for name, facts in methods.items()}
    assert trends == {"2D": "converged", "3D": "rising", "fused": "rising"}
    assert "| *3D minus 2D* (no conclusion: 3D) |" in text
    assert "| *3D* | 10 | 3.0 | 250 | 4 | 0.600 | +0.400 | rising |" in text
    assert "| 2D | 10 | 3.0 | 250 | 4 | 0.810 | +0.010 | converged |" in text
    assert "| 2D | 0.850 | 0.500 |" in text  # every class


def test_each_budget_has_its_tables_and_the_longest_is_pooled():
    records = [
        record(method, 0, {"a": dice, "b": dice}, dataset=name)
        for method, dice in (("2D", 0.5), ("2D", 0.8), ("3D", 0.9))
        for name in ("one", "two")
    ]
    for each in records[2:]:
        each.recipe["minutes"] = 16.0

    summary = summarise_study(records, ["2D", "3D"], PAIRS)

    assert list(summary["datasets"]) == [
        "one, 16 min",
        "two, 16 min",
        "one, 2 min",
        "two, 2 min",
    ]
    assert summary["pooled"][0]["n"] == 4
    assert summary["pooled"][0]["difference"] == pytest.approx(0.1)


def test_all_data_sets_together_pair_every_volume_once():
    records = [
        record(method, 0, {"a": base, "b": base + 0.1}, dataset=dataset)
        for dataset in ("one", "two")
        for method, base in (("2D", 0.5), ("3D", 0.6))
    ]

    summary = summarise_study(records, ["2D", "3D"], PAIRS)

    assert summary["pooled"][0]["n"] == 4
    assert summary["pooled"][0]["difference"] == pytest.approx(0.1)
    text = markdown("T", "Q", summary)
    assert "## All data sets together" in text
    assert "| 3D | 0.650 | 0.650 |" in text


def test_records_come_back_as_written_undefined_and_missed_kept_apart(tmp_path):
    written = record("2D", 0, {"a": math.nan, "b": 0.5}, hd95=math.inf)
    path = write_record(written, tmp_path)

    (read,) = read_records(tmp_path)

    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert math.isnan(read.score("a", "dice"))
    assert read.score("b", "hd95_um") == math.inf
    assert read.score("b", "dice") == 0.5
    assert math.isnan(read.score("b", "object_f1"))


def test_a_folder_without_records_and_a_broken_record_are_named(tmp_path):
    with pytest.raises(ConfigError, match="holds no record"):
        read_records(tmp_path)

    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "x.json").write_text('{"key": 1}')
    with pytest.raises(ConfigError, match="is no record of a benchmark"):
        read_records(tmp_path)


def test_the_pareto_front_holds_what_nothing_beats():
    points = [(3, 0.9), (1, 0.5), (2, 0.4), (2, 0.7), (4, 0.9), (5, math.nan)]

    assert pareto_front(points) == [(1, 0.5), (2, 0.7), (3, 0.9)]


def test_the_picture_shows_every_method_in_its_own_colour(tmp_path):
    image_module = pytest.importorskip("matplotlib.image")
    records = [
        record("2D", 0, {"a": 0.5, "b": 0.7}),
        record("3D", 0, {"a": 0.6, "b": 0.9}),
    ]

    draw_pareto(summarise_study(records, ["2D", "3D"], PAIRS), tmp_path / "p.png")

    pixels = image_module.imread(tmp_path / "p.png")[..., :3]
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        near = abs(pixels - [c / 255 for c in colour]).max(axis=-1) < 0.01
        assert near.sum() > 100


def test_curves_are_drawn_where_there_are_some(tmp_path):
    image_module = pytest.importorskip("matplotlib.image")
    without = summarise_study([record("2D", 0, {"a": 0.5})], ["2D"], [])
    records = [record("2D", seed, {"a": 0.5}, end=STILL) for seed in (0, 1)]

    draw_curves(without, tmp_path / "none.png")
    draw_curves(summarise_study(records, ["2D"], []), tmp_path / "c.png")

    assert not (tmp_path / "none.png").exists()
    pixels = image_module.imread(tmp_path / "c.png")[..., :3]
    near = abs(pixels - [0x00, 0x72 / 255, 0xB2 / 255]).max(axis=-1) < 0.01
    assert near.sum() > 100
