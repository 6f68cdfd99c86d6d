"""``cellseg3d tune``: search the settings of a training or of an object decoder."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg3d.cli.terminal.reading_options import Channel, Channels, several
from cellseg3d.cli.terminal.trust_option import Trust
from cellseg3d.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def command(
    space: Annotated[
        Path | None,
        typer.Argument(
            metavar="SPACE.yaml",
            help="The search space: keys of a training's config and their values.",
        ),
    ] = None,
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Train on this data set: a datalist, or a folder whose volumes and "
            "labels pair by name."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the search to this folder; a search that was stopped there "
            "goes on."
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(help="Train this bundle, not the one that SPACE.yaml names."),
    ] = None,
    channel: Channel = None,
    channels: Channels = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Try this many settings in each search.")
    ] = 20,
    minutes: Annotated[
        float | None,
        typer.Option(help="Let each training take this many minutes by the clock."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Let each training take this many epochs."),
    ] = None,
    outer: Annotated[
        int,
        typer.Option(
            min=0,
            help="Score the search on unseen specimens: split the data into this many "
            "parts (2 or more) and hold out each in turn. 0 searches without a score.",
        ),
    ] = 2,
    inner: Annotated[
        int,
        typer.Option(min=1, help="Validate each trial on this many specimens in turn."),
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Draw all random numbers from this seed.")
    ] = 0,
    device: Annotated[
        str | None,
        typer.Option(help="Compute on auto, cpu, cuda, or mps (an Apple GPU)."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the result to this JSON file as well.")
    ] = None,
    decoder: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Search something else: how the probabilities of this trained run "
            "become objects, on the run's own training volumes.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Tune this method of --decoder: watershed, components, border-core, "
            "affinity or mean-size."
        ),
    ] = None,
    trust: Trust = None,
) -> None:
    """Search the best settings of a training or of a decoder.

    Each trial trains with other settings, such as learning rate or batch size. Trials
    that fall behind end early. The best settings are then scored on specimens that the
    search has not seen (nested validation). A search that was stopped goes on when the
    same command is started again. It writes tune.json, pictures, and best.yaml for
    `cellseg3d train --plan`.
    """
    del trust  # its callback has acted
    if decoder is not None:
        _tune_decoder(decoder, method, json)
        return
    if space is None or data is None or out is None:
        raise ConfigError(
            "tune: give SPACE.yaml, --data and --out to tune a training, or --decoder "
            "RUN alone to tune a decoder"
        )
    from cellseg3d.datasets.told import told_datalist
    from cellseg3d.tuning.plots import draw_search
    from cellseg3d.tuning.search import BEST, TuneOptions, tune
    from cellseg3d.tuning.space import read_space

    options = TuneOptions(trials, minutes, epochs, outer, inner, seed, device)
    told = told_datalist(data, channel=channel, channels=several(channels))
    result = tune(read_space(space, bundle), told, out, options, _tell)
    for study in result["studies"]:
        draw_search(study, out / f"{study['name']}.png")
    _show(result)
    if json is not None:
        _write_json(result, json)
    print(f"wrote pictures and tune.json to {out}")
    words = f"--bundle {result['bundle']} --data {data} --plan {out / BEST}"
    print(f"next: cellseg3d train {words} --out RUN")


def _tune_decoder(run: Path, method: str | None, json: Path | None) -> None:
    from cellseg3d.prediction.tune_objects import tune_run

    tuned = tune_run(run, method)
    changed = {k: v for k, v in tuned.options.as_dict().items() if v is not None}
    for name, value in changed.items():
        print(f"{name}: {value}")
    print(f"mean AP on the training volumes: {tuned.score:.4f}")
    print(f"written to {run}: `cellseg3d predict --objects` uses these settings")
    if json is not None:
        found = {"options": changed, "score": tuned.score, "trials": tuned.trials}
        _write_json(found, json)


def _tell(study: str, row: "Mapping[str, Any]") -> None:
    score = "-" if row["score"] is None else f"{row['score']:.4f}"
    words = ", ".join(f"{key}={value}" for key, value in row["settings"].items())
    print(f"{study} trial {row['trial']}: {row['state']}, Dice {score} ({words})")


def _show(result: "Mapping[str, Any]") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # a log file has room for the whole table
        console = Console(width=200)
    table = Table(box=None, pad_edge=False)
    titles = ("search", "trials", "pruned", "best validation Dice", "unseen Dice")
    for title in (*titles, "settings"):
        table.add_column(title, overflow="fold")
    for study in result["studies"]:
        states = [row["state"] for row in study["trials"]]
        unseen = study.get("test", {}).get("dice")
        table.add_row(
            study["name"],
            str(len(states)),
            str(states.count("pruned")),
            f"{study['best']['score']:.4f}",
            "-" if unseen is None else f"{unseen:.4f}",
            ", ".join(f"{k}={v}" for k, v in study["best"]["settings"].items()),
        )
    console.print(table)
    nested = result["nested"]
    if nested["n"]:
        print(
            f"on specimens that the search has not seen, its settings score Dice "
            f"{nested['dice']:.4f} (mean of {nested['n']} parts)"
        )


def _write_json(values: "Mapping[str, Any]", path: Path) -> None:
    import json

    from cellseg3d.core.atomic import write_text

    text = json.dumps(values, indent=1) + "\n"
    write_text(path, text)
