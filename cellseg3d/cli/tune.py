"""``cellseg3d tune``: search the numbers of a training, or of a decoder."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg3d.cli.trust_option import Trust
from cellseg3d.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def command(
    space: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SPACE.yaml]",
            help="What to search: keys of a training's config and their values.",
        ),
    ] = None,
    *,
    data: Annotated[
        Path | None, typer.Option(help="Datalist, or a folder that pairs by name.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the search; goes on if it is there.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle to train, instead of the file's.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trainings of each search.")] = 20,
    minutes: Annotated[
        float | None, typer.Option(help="Length of each training, by the clock.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Length of each training.")
    ] = None,
    outer: Annotated[
        int,
        typer.Option(
            min=0,
            help="Parts of the data held out in turn to score the search itself "
            "(2 or more); 0 only searches.",
        ),
    ] = 2,
    inner: Annotated[
        int, typer.Option(min=1, help="Specimens that validate each trial, in turn.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or mps (Apple).")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the result here too.")
    ] = None,
    decoder: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Instead: tune how a trained run's answers become objects, on its "
            "own training volumes.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Decoder to tune: watershed, components, border-core, ..."),
    ] = None,
    trust: Trust = None,
) -> None:
    """Search learning rate, crop, batch, ... with nested validation.

    Each trial trains and validates on specimens of its own; the best is scored on
    specimens that the search has never seen. Trials that fall behind end early. A
    search that was stopped goes on when it is started again. The result: a table,
    tune.json, pictures, and best.yaml for `cellseg3d train --plan`.
    """
    del trust  # acts by itself
    if decoder is not None:
        _tune_decoder(decoder, method, json)
        return
    if space is None or data is None or out is None:
        raise ConfigError(
            "tune: give SPACE.yaml, --data and --out; or --decoder RUN alone"
        )
    from cellseg3d.tuning.plots import draw_search
    from cellseg3d.tuning.search import BEST, TuneOptions, tune
    from cellseg3d.tuning.space import read_space

    options = TuneOptions(trials, minutes, epochs, outer, inner, seed, device)
    result = tune(read_space(space, bundle), data, out, options, _tell)
    for study in result["studies"]:
        draw_search(study, out / f"{study['name']}.png")
    _show(result)
    if json is not None:
        _write_json(result, json)
    print(f"pictures and tune.json: {out}")
    words = f"--bundle {result['bundle']} --data {data} --plan {out / BEST}"
    print(f"next: cellseg3d train {words} --out RUN")


def _tune_decoder(run: Path, method: str | None, json: Path | None) -> None:
    from cellseg3d.prediction.tune_objects import tune_run

    tuned = tune_run(run, method)
    changed = {k: v for k, v in tuned.options.as_dict().items() if v is not None}
    for name, value in changed.items():
        print(f"{name}: {value}")
    print(f"mean AP on the training volumes: {tuned.score:.4f}")
    print(f"kept in {run}: predict --objects decodes with it")
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
    if not console.is_terminal:  # a log file: nothing is cut off
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
            f"such a search scores {nested['dice']:.4f} on specimens that it has not "
            f"seen (mean of {nested['n']} parts)"
        )


def _write_json(values: "Mapping[str, Any]", path: Path) -> None:
    import json

    from cellseg3d.core.atomic import atomic_write

    text = json.dumps(values, indent=1) + "\n"
    atomic_write(path, lambda target: _put(target, text))


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
