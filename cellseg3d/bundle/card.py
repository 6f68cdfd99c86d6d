"""Write the model card of a bundle's weights from what was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from cellseg3d.bundle.shipped_record import interval, measured, overall, short

# The title, licence, citation and source of each data set, by its name.
DataSets = Mapping[str, Mapping[str, Any]]


def model_card(
    name: str,
    title: str,
    about: Mapping[str, Any],
    record: Mapping[str, Any],
    data_sets: DataSets,
) -> str:
    """Return the text of a bundle's ``docs/README.md``.

    Parameters
    ----------
    name, title : str
        The name of the bundle and what it does.
    about : mapping
        The entries ``purpose``, ``not_for`` and ``expects``, each in sentences.
    record : mapping
        What `cellseg3d bundle train-weights` measured.
    data_sets : mapping
        The data sets with their licences, from ``configs/data_sets.yaml``.
    """
    parts = [
        f"# {name}",
        f"{title}. The bundle holds weights. This page is generated from "
        f"`benchmarks/records/weights/{name}.json`.",
        "## What it is for",
        str(about["purpose"]).strip(),
        f"It is not for: {str(about['not_for']).strip()}",
        "## What it expects",
        str(about["expects"]).strip(),
        _use(name),
        "## Data",
        _data(record, data_sets),
        "## Validation: scores on volumes that were left out",
        _protocol(record),
        _scores(record),
        _pictures(record),
        *_robustness(record),
        "## How it was trained",
        _training(record),
        "## Fine-tune it",
        _fine_tune(name),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def data_license(record: Mapping[str, Any], data_sets: DataSets) -> str:
    """Return ``docs/data_license.txt``: the sources and licences of the data."""
    lines = []
    for row in record["data"]:
        known = data_sets[row["dataset"]]
        lines += [
            str(known["title"]),
            f"  licence: {str(known['licence']).strip()}",
            f"  cite: {known['citation']}",
            f"  source: {known['source']}",
            f"  used for: {_uses(row)}",
            "",
        ]
    if not _is_commercial(record, data_sets):
        lines += [_NOT_COMMERCIAL, ""]
    return "\n".join(lines)


_NOT_COMMERCIAL = (
    "Part of the training data may not be used commercially. Whether that binds "
    "weights made from them is not settled; take these weights for research and "
    "teaching, or ask the owners of the data."
)


def _is_commercial(record: Mapping[str, Any], data_sets: DataSets) -> bool:
    used = [row for row in record["data"] if row["training"]]
    return all(data_sets[row["dataset"]].get("commercial", True) for row in used)


def _uses(row: Mapping[str, Any]) -> str:
    counts = [
        f"{len(row[side])} volumes or images for {word}"
        for side, word in (("training", "training"), ("test", "testing only"))
        if row[side]
    ]
    return ", ".join(counts) or "testing, simulated during scoring"


def _use(name: str) -> str:
    return (
        "```\n"
        f"cellseg3d predict VOLUME --bundle {name} --out RESULTS\n"
        "python -m monai.bundle run inferring --config_file configs/inference.json "
        "--dataset_dir FOLDER\n"
        "```\n"
        "`predict` warns when a volume's grey values, noise or texture lie far from "
        "those of the training volumes."
    )


def _data(record: Mapping[str, Any], data_sets: DataSets) -> str:
    lines = ["| data | licence | cite | used for |", "| --- | --- | --- | --- |"]
    for row in record["data"]:
        known = data_sets[row["dataset"]]
        lines.append(
            f"| {known['title']} | {str(known['licence']).strip()} | "
            f"{known['citation']} | {_uses(row)} |"
        )
    text = "\n".join(lines)
    if not _is_commercial(record, data_sets):
        text += f"\n\n{_NOT_COMMERCIAL}"
    return text


def _protocol(record: Mapping[str, Any]) -> str:
    missing = [
        row["part"]
        for row in record["trainings"]
        if row["state"] != "completed" and not row["part"].endswith("final")
    ]
    text = (
        f"Protocol: {record['protocol']}. Brackets hold 95 % intervals over volumes; "
    )
    text += "with fewer than four volumes every value is shown."
    if missing:
        text += (
            " Some trainings have not ended, so their scores are missing or early: "
            f"{', '.join(missing)}."
        )
    return text


def _scores(record: Mapping[str, Any]) -> str:
    rows = measured(record)
    if not rows:
        return "Nothing has been scored yet."
    lines = [
        "| left out | class | score | value | n |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['condition']} | {row['class']} | {_words(row['metric'])} | "
        f"{interval(row)} | {row['n']} |"
        for row in rows
    ]
    means = overall(record)
    if any(row["conditions"] > 1 for row in means):
        lines += [
            f"| mean of all | {row['class']} | {_words(row['metric'])} | "
            f"{short(row['mean'])} | {row['n']} |"
            for row in means
        ]
    return "\n".join(lines)


def _words(metric: str) -> str:
    return {
        "dice": "Dice",
        "object_f1": "F1 of objects at IoU .5",
        "object_precision": "precision of objects",
        "object_recall": "recall of objects",
        "ap_mean": "mean AP, IoU .5 to .95",
    }.get(metric, metric)


def _pictures(record: Mapping[str, Any]) -> str:
    lines = []
    for kind, row in (record.get("pictures") or {}).items():
        lines.append(
            f"![{kind} case]({kind}.png)\n\n"
            f"A {kind} case, {row['case']}: {_words(row['metric'])} "
            f"{short(row['value'])}, {row['class']}. Left to right: image, true "
            f"labels, labels of the network. Image: {row['credit']}."
        )
    return "\n\n".join(lines)


def _robustness(record: Mapping[str, Any]) -> list[str]:
    """Return the section with scores on volumes changed as by other microscopes."""
    rows = record.get("robustness") or []
    columns = list(dict.fromkeys((row["class"], row["metric"]) for row in rows))
    values = {(r["shift"], r["class"], r["metric"]): r["mean"] for r in rows}
    if not rows:
        return []
    lines = [
        "| change | " + " | ".join(f"{c}, {_words(m)}" for c, m in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for shift in dict.fromkeys(row["shift"] for row in rows):
        numbers = [short(values.get((shift, *column))) for column in columns]
        lines.append(f"| {shift} | {' | '.join(numbers)} |")
    count = max(row["n"] for row in rows)
    text = (
        f"These are scores on the middle of {count} volumes that were left out, "
        "changed as another microscope would (`cellseg3d/weights/shifts.py` says by "
        "how much). Check whether your volumes show a change that lowers the scores "
        "much here."
    )
    return ["## Scores on changed volumes", text, "\n".join(lines)]


def _training(record: Mapping[str, Any]) -> str:
    name = record["name"]
    settings, weights = record["settings"], record["weights"]
    if record.get("members"):
        return _fused(record)
    augmentation = ", ".join(
        str(block["_target_"]).rsplit(".", maxsplit=1)[-1]
        for block in settings["augmentation"]
    )
    lines = [
        f"- network: {settings['network']['name']}, "
        f"{weights['parameters'] / 1e6:.2f} million parameters, stored in "
        f"{weights['precision']} ({weights['bytes'] / 1e6:.1f} MB; a share of "
        f"{weights['labels_changed_by_half']:.1g} of the labels differs from those in "
        "float32)",
        f"- patch {settings['patch']}, batch {settings['batch']}, loss "
        f"{_last(settings['loss'])}, optimiser {_last(settings['optimizer'])} at a "
        f"rate of {settings['optimizer']['lr']}",
        f"- augmentation: {augmentation} (amounts: "
        f"`configs/weights/{name}.yaml` of the repository)",
    ]
    lines += [_cost(row) for row in record["trainings"]]
    lines.append(f"- commit {record['commit']}, made {record['made']}")
    lines.append(f"- to repeat it: `cellseg3d bundle train-weights {record['name']}`")
    return "\n".join(lines)


def _fused(record: Mapping[str, Any]) -> str:
    """Return how a bundle was made that fuses the networks of other bundles."""
    weights = record["weights"]
    lines = [
        f"- network {member}: the one of `{bundle}`, whose card says how it was trained"
        for member, bundle in record["members"].items()
    ]
    lines += [
        f"- {weights['parameters'] / 1e6:.2f} million parameters, stored in "
        f"{weights['precision']} ({weights['bytes'] / 1e6:.1f} MB)",
        "- how much each source counts for each class was fitted on validation volumes",
        f"- commit {record['commit']}, made {record['made']}",
        f"- to repeat it: `cellseg3d bundle train-weights {record['name']}`",
    ]
    return "\n".join(lines)


def _cost(row: Mapping[str, Any]) -> str:
    if row.get("steps") is None:
        return f"- {row['part']}: {row['state']}"
    cost = row.get("cost") or {}
    minutes = cost.get("cpu_s", 0) / 60
    text = f"- {row['part']}: {row['steps']} of {row['steps_planned']} steps"
    gpu = (row.get("machine") or {}).get("gpu")
    where = (
        f"{cost.get('wall_s', 0) / 60:.1f} minutes of {gpu}"
        if gpu
        else (f"{minutes:.0f} minutes of processor time")
    )
    text += f", {where}"
    fell = row.get("loss_fell_in_last_fifth")
    if fell is not None:
        text += f"; the loss fell by {100 * fell:.1f} % over the last fifth"
        if fell > STILL_FALLING:
            text += ", so it had not converged"
    return text


# A training whose loss falls by more than this share over its last fifth has not
# converged.
STILL_FALLING = 0.03


def _fine_tune(name: str) -> str:
    return (
        "A few labelled slices of your own volumes, everything else 255 (not "
        "annotated), are enough to begin with:\n"
        "```\n"
        f"cellseg3d train --bundle {name} --data DATALIST --out RUN\n"
        "cellseg3d predict VOLUME --bundle RUN --out RESULTS\n"
        "```\n"
        "Keep a labelled specimen back and run `cellseg3d evaluate` on it."
    )


def _last(block: Mapping[str, Any] | Sequence[Any]) -> str:
    target = block["_target_"] if isinstance(block, Mapping) else str(block)
    return str(target).rsplit(".", maxsplit=1)[-1]
