"""Write a plan as YAML for `cellseg3d train --plan`, with a reason for each value."""

import json
from pathlib import Path
from typing import Any

from cellseg3d.core.atomic import write_text
from cellseg3d.datasets.cases import Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.planning.machine import Machine, this_machine
from cellseg3d.planning.plan import Plan, best_kind, make_plans
from cellseg3d.planning.survey import Survey, survey
from cellseg3d.runs.data_facts import facts_of_datalist

_NAMES = {"2D": "plan_2d.yaml", "2.5D": "plan_25d.yaml", "3D": "plan_3d.yaml"}


def write_plans(
    plans: list[Plan], data: Survey, machine: Machine, out: Path, source: str
) -> list[Path]:
    """Write one file per plan and return the paths.

    Parameters
    ----------
    plans : list of Plan
    data : Survey
    machine : Machine
    out : Path
        A folder; it is created if needed. Files of the same name are replaced.
    source : str
        Path of the datalist, for the command shown in the files.

    Raises
    ------
    EnvironmentFault
        If the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for plan in plans:
        path = out / _NAMES[plan.kind]
        text = plan_text(plan, data, machine, f"--data {source} --plan {path}")
        write_text(path, text)
        paths.append(path)
    return paths


def plan_data(
    source: str | Path | Datalist, minutes: float | None = None
) -> tuple[Plan, str]:
    """Return the recommended plan for a data set on this machine, and its text.

    Parameters
    ----------
    source : str, Path or Datalist
        A datalist or a folder.
    minutes : float, optional
        Time available for the training.

    Raises
    ------
    ConfigError, InputError, LabelError
        If nothing is labelled, or a file cannot be read.
    """
    datalist = source if isinstance(source, Datalist) else load_datalist(source)
    seen, machine = survey(datalist), this_machine()
    facts = facts_of_datalist(datalist)
    [plan] = make_plans(
        facts, seen, machine, kinds=[best_kind(seen)[0]], minutes=minutes
    )
    words = f"--data {datalist.where} --plan THIS_FILE"
    return plan, plan_text(plan, seen, machine, words)


def plan_text(plan: Plan, data: Survey, machine: Machine, words: str) -> str:
    """Return a plan as YAML, with the reason above each value.

    Parameters
    ----------
    plan : Plan
    data : Survey
    machine : Machine
    words : str
        Options of the command that uses the plan.
    """
    lines = [
        f"# {plan.kind} plan for {_one_line(data.name)}. {plan.advice}.",
        f"#   cellseg3d train --bundle {plan.bundle} {_one_line(words)} --out RUN",
        *(f"# {line}" for line in facts_lines(data, machine)),
        f"# About {plan.minutes:.0f} min without validation, {plan.gib:.2f} GiB for a "
        "step; one step was timed.",
    ]
    for choice in plan.choices:
        lines += ["", f"# {_one_line(choice.reason)}"]
        lines.append(f"{choice.key}: {json.dumps(choice.value)}")
    return "\n".join(lines) + "\n"


def facts_lines(data: Survey, machine: Machine) -> list[str]:
    """Return lines of text that describe the data and the machine."""
    smallest = [min(shape[axis] for shape in data.shapes) for axis in range(3)]
    largest = [max(shape[axis] for shape in data.shapes) for axis in range(3)]
    spacing = data.spacing or "unknown (lengths are in voxels)"
    gpu = machine.gpu or "no GPU"
    return [
        f"data: {data.cases} volumes, {' x '.join(map(str, smallest))} to "
        f"{' x '.join(map(str, largest))} voxels (z, y, x); spacing {spacing}; "
        f"{data.annotated:.1%} annotated ({data.labels_read} labels read)",
        *(
            f"class {_one_line(each.name)}: {each.share:.2%} of the annotated voxels, "
            f"{each.objects} objects, {each.diameter:.3g} {data.unit} across"
            for each in data.classes
        ),
        f"machine: {machine.cores} cores, {machine.memory_bytes / 2**30:.1f} GiB free, "
        f"{gpu}",
    ]


def plan_facts(plans: list[Plan], data: Survey, machine: Machine) -> dict[str, Any]:
    """Return plans, data and machine as plain JSON values."""
    return {
        "data": facts_lines(data, machine)[:-1],
        "machine": facts_lines(data, machine)[-1],
        "plans": [
            {
                "kind": plan.kind,
                "bundle": plan.bundle,
                "advice": plan.advice,
                "steps": plan.steps,
                "minutes": round(plan.minutes, 2),
                "gib": round(plan.gib, 3),
                "settings": plan.settings,
                "reasons": {choice.key: choice.reason for choice in plan.choices},
            }
            for plan in plans
        ],
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())
