"""The card says what the record says: data, licence, scores, whether it converged."""

from cellseg3d.bundle.card import data_license, model_card
from cellseg3d.bundle.shipped_record import eval_metrics, headline, interval, overall

DATA_SETS = {
    "free": {"title": "Free", "licence": "CC0", "citation": "A 2020", "source": "x"},
    "bound": {
        "title": "Bound",
        "licence": "CC BY-NC",
        "commercial": False,
        "citation": "B 2021",
        "source": "y",
    },
}


def score(condition, mean, values):
    return {
        "part": "final",
        "condition": condition,
        "class": "nucleus",
        "metric": "dice",
        "mean": mean,
        "low": 0.5,
        "high": 0.9,
        "n": len(values),
        "values": values,
    }


def record(dataset="free", fell=0.1):
    return {
        "name": "cells",
        "made": "2026-01-02",
        "commit": "abc",
        "protocol": "each specimen is left out",
        "data": [
            {"name": dataset, "dataset": dataset, "training": ["a"], "test": []},
        ],
        "trainings": [
            {
                "part": "final",
                "state": "completed",
                "steps": 10,
                "steps_planned": 20,
                "cost": {"cpu_s": 120.0},
                "machine": {"gpu": None},
                "loss_fell_in_last_fifth": fell,
            }
        ],
        "settings": {
            "network": {"name": "unet"},
            "patch": [8, 8],
            "batch": 2,
            "loss": {"_target_": "a.DiceCELoss"},
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.1},
            "augmentation": [{"_target_": "x.RandBlurd"}],
        },
        "weights": {
            "sha256": "0",
            "bytes": 2_000_000,
            "parameters": 1_000_000,
            "precision": "float16",
            "labels_changed_by_half": 0.0,
        },
        "scores": [
            score("one", 0.7, [0.7] * 5),
            score("two", 0.5, [0.4, 0.6]),
        ],
    }


ABOUT = {"purpose": "Finds nuclei.", "not_for": "diagnosis.", "expects": "One channel."}


def test_a_card_gives_every_score_with_n_and_interval_or_values():
    text = model_card("cells", "Cells", ABOUT, record(), DATA_SETS)

    assert "| one | nucleus | Dice | .700 [.500, .900] | 5 |" in text
    assert "| two | nucleus | Dice | .500 (.400, .600) | 2 |" in text
    assert "| mean of all | nucleus | Dice | .600 | 7 |" in text
    assert "10 of 20 steps, 2 minutes of processor time" in text


def test_a_loss_that_still_falls_is_said_not_to_have_converged():
    falling = model_card("cells", "Cells", ABOUT, record(fell=0.1), DATA_SETS)
    flat = model_card("cells", "Cells", ABOUT, record(fell=0.01), DATA_SETS)

    assert "so it had not converged" in falling
    assert "so it had not converged" not in flat


def test_data_that_may_not_be_used_commercially_are_said_to_be():
    assert "may not be used commercially" in data_license(record("bound"), DATA_SETS)
    assert "commercially" not in data_license(record("free"), DATA_SETS)


def test_metadata_and_list_repeat_the_record():
    assert eval_metrics(record()) == {
        "nucleus dice, one": 0.7,
        "nucleus dice, two": 0.5,
    }
    assert headline(record()) == "nucleus Dice .600 (n = 7)"
    assert overall(record())[0]["conditions"] == 2
    assert interval(record()["scores"][1]) == ".500 (.400, .600)"


def test_the_card_shows_what_each_change_of_the_volumes_costs():
    rows = [
        {"shift": shift, "class": name, "metric": metric, "mean": mean, "n": 4}
        for shift, name, metric, mean in (
            ("none", "cell", "dice", 0.9),
            ("none", "object", "object_f1", 0.8),
            ("noise", "cell", "dice", 0.75),
            ("noise", "object", "object_f1", None),
        )
    ]

    text = model_card(
        "cells", "Cells", ABOUT, record() | {"robustness": rows}, DATA_SETS
    )

    assert "| change | cell, Dice | object, F1 of objects at IoU .5 |" in text
    assert "| none | .900 | .800 |\n| noise | .750 | - |" in text
    assert "the middle of 4 volumes that were left out" in text
    assert "changed volumes" not in model_card(
        "cells", "Cells", ABOUT, record(), DATA_SETS
    )


def test_the_card_of_fused_networks_names_the_bundles_that_they_come_from():
    fused = record() | {"members": {"flat": "cells_2d", "deep": "cells_3d"}}

    text = model_card("cells", "Cells", ABOUT, fused, DATA_SETS)

    assert "network flat: the one of `cells_2d`" in text
    assert "network deep: the one of `cells_3d`" in text
    assert "of 20 steps" not in text
