"""``cellseg3d plan``: choose the settings of a training and give the reasons."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg3d.cli.terminal.reading_options import (
    AnnotatedSlices,
    Channel,
    Channels,
    SpacingUm,
    several,
)
from cellseg3d.cli.terminal.wording import worded

if TYPE_CHECKING:
    from cellseg3d.planning.plan import Plan


def command(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATALIST|FOLDER", help="The data set to train on."),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Write plan_2d.yaml, plan_25d.yaml and plan_3d.yaml to this folder.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Plan for a training of this many minutes; a short one has smaller "
            "patches."
        ),
    ] = None,
    spacing_um: SpacingUm = None,
    annotated_slices: AnnotatedSlices = None,
    channel: Channel = None,
    channels: Channels = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the plans to this JSON file.")
    ] = None,
) -> None:
    """Choose the settings of a training and give the reasons.

    The settings are patch, batch, context, axis and length. They depend on the sizes,
    spacing, classes and objects of the data and on the cores, memory and GPU of this
    machine, on which one training step of each network is timed. Use a plan with
    `cellseg3d train --plan FILE`.
    """
    from cellseg3d.core.steps import say
    from cellseg3d.datasets.cases import Datalist
    from cellseg3d.datasets.datalist import load_datalist
    from cellseg3d.datasets.told import told_datalist
    from cellseg3d.io.output.ownership import check_outputs
    from cellseg3d.planning.files import facts_lines, plan_facts, write_plans
    from cellseg3d.planning.machine import this_machine
    from cellseg3d.planning.plan import make_plans
    from cellseg3d.planning.survey import survey
    from cellseg3d.runs.data_facts import facts_of_datalist

    if json is not None and data.is_file():
        check_outputs([json], [data])
    told = told_datalist(
        data,
        spacing_um,
        annotated_slices,
        channel=channel,
        channels=several(channels),
    )
    datalist = told if isinstance(told, Datalist) else load_datalist(data)
    say("reading labels and timing a training step of each network")
    seen, machine = survey(datalist), this_machine()
    plans = make_plans(facts_of_datalist(datalist), seen, machine, minutes=minutes)
    for line in facts_lines(seen, machine):
        print(line)
    _show(plans)
    if json is not None:
        _write_json(plan_facts(plans, seen, machine), json)
    if out is not None:
        files = write_plans(plans, seen, machine, out, str(data))
        for path, plan in zip(files, plans, strict=True):
            print(f"{plan.kind}: {path}")
        best = next(
            i for i, p in enumerate(plans) if p.advice.startswith("begin with t")
        )
        words = f"--bundle {plans[best].bundle} --data {data} --plan {files[best]}"
        words += f" --minutes {minutes:g}" if minutes else ""
        print(f"next: cellseg3d train {words} --out RUN")


def _show(plans: "list[Plan]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # a log file has room for the whole table
        console = Console(width=200)
    for plan in plans:
        title = (
            f"{plan.kind} ({plan.bundle}): {plan.steps} steps, about "
            f"{plan.minutes:.0f} min here; {plan.advice}"
        )
        title = escape(worded(title))
        table = Table(
            title=escape(worded(title)), title_justify="left", box=None, pad_edge=False
        )
        for heading in ("setting", "value", "because"):
            table.add_column(heading, overflow="fold")
        for choice in plan.choices:
            name = choice.key.replace("train::", "")
            table.add_row(name, str(choice.value), escape(choice.reason))
        console.print(table)
        console.print()


def _write_json(values: object, path: Path) -> None:
    import json

    from cellseg3d.core.atomic import write_text

    text = json.dumps(values, indent=2) + "\n"
    write_text(path, text)
