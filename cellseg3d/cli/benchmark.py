"""``cellseg3d benchmark``: compare networks and tools on the same data and time."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg3d.core.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellseg3d.benchmark.record import Record
    from cellseg3d.benchmark.runner import Bench
    from cellseg3d.benchmark.study import Job

    _Bar = tuple[Callable[[Job], None], Callable[[Job, Record], None]]


def command(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY.yaml",
            help="The study: its data sets, methods, seeds and minutes of training.",
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(help="Write records, models, tables and a picture here."),
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Run only the jobs whose key contains this text or matches this "
            "pattern with *. Give the option several times for several keys.",
        ),
    ] = None,
    tables_only: Annotated[
        bool,
        typer.Option(
            "--tables-only", help="Run nothing: write the tables from the records."
        ),
    ] = False,
    nnunet_python: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON",
            help="Run nnU-Net with this Python, which must have nnunetv2.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON.")
    ] = False,
) -> None:
    """Compare networks and tools on the same data and time.

    Each combination of data set, method, fold, seed and budget is one job, and its
    result is kept in a small record. A job that has a record is not run again unless it
    failed. Tables, the comparison with the reference method and the pictures are made
    from the records.
    """
    from cellseg3d.benchmark.markdown import PICTURE  # noqa: PLC0415
    from cellseg3d.benchmark.process import require_measuring  # noqa: PLC0415
    from cellseg3d.benchmark.results import (  # noqa: PLC0415
        TABLE,
        VALUES,
        write_results,
    )
    from cellseg3d.benchmark.runner import Bench  # noqa: PLC0415
    from cellseg3d.benchmark.study import load_study  # noqa: PLC0415

    study = load_study(config)
    if not tables_only:
        require_measuring()
        out.mkdir(parents=True, exist_ok=True)
        _run(Bench(study, out, nnunet_python), only or [])
    write_results(study, out)
    if json:
        print((out / VALUES).read_text(encoding="utf-8"), end="")
        return
    print((out / TABLE).read_text(encoding="utf-8"), end="")
    print(f"\nwrote {out / TABLE}, {out / VALUES} and {out / PICTURE}", file=sys.stderr)


def _run(bench: "Bench", only: Sequence[str]) -> None:
    """Run the jobs that have no record yet, with a progress bar."""
    from cellseg3d.benchmark.runner import pending, run_jobs  # noqa: PLC0415

    jobs, done = pending(bench, only)
    say = f"{counted(len(jobs), 'job')} to run, {done} done before"
    print(f"{say}; about {_forecast(bench, jobs)} of training", file=sys.stderr)
    with _progress(bench, jobs) as (before, after):
        run_jobs(bench, jobs, before, after)


def _forecast(bench: "Bench", jobs: "Sequence[Job]") -> str:
    minutes = sum(job.minutes for job in jobs if job.method.trains)
    return f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.1f} min"


@contextmanager
def _progress(bench: "Bench", jobs: "Sequence[Job]") -> "Iterator[_Bar]":
    """Print a line for each job; on a terminal, show a progress bar as well."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    clock = _Clock(bench, jobs)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("jobs", total=len(jobs), left="")

        def before(job: "Job") -> None:
            bar.update(task, description=job.key, left=clock.left())

        def after(job: "Job", record: "Record") -> None:
            clock.finish(job)
            bar.update(task, advance=1, left=clock.left())
            console.print(
                _line(job, record), markup=False, highlight=False, soft_wrap=True
            )

        yield before, after


class _Clock:
    """A forecast of the time left, from the mean time of the jobs that have ended."""

    def __init__(self, bench: "Bench", jobs: "Sequence[Job]") -> None:
        self._budget_s = 60 * max(bench.study.minutes)
        self._rest = [job.method.trains for job in jobs]
        self._begun = time.monotonic()
        self._spent: dict[bool, list[float]] = {True: [], False: []}

    def finish(self, job: "Job") -> None:
        """Note that a job has ended."""
        now = time.monotonic()
        self._spent[job.method.trains].append(now - self._begun)
        self._begun = now
        self._rest = self._rest[1:]

    def left(self) -> str:
        """Return the time left as text; nothing if no job is left."""
        seconds = sum(self._expected(trains) for trains in self._rest)
        return f"about {seconds / 60:.0f} min left" if seconds else ""

    def _expected(self, trains: bool) -> float:
        spent = self._spent[trains]
        if spent:
            return sum(spent) / len(spent)
        return self._budget_s if trains else 0.1 * self._budget_s


def _line(job: "Job", record: "Record") -> str:
    if record.state != "done":
        return f"{job.key}: {record.state}: {record.reason}"
    dice = [record.score(volume, "dice") for volume in record.volumes]
    listed = ", ".join(f"{value:.3f}" for value in dice)
    return f"{job.key}: Dice of {record.target} {listed}"
