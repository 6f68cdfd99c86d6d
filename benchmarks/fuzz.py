"""Damage every kind of file that the project reads, and see that it says so.

Each mutant is read in a process of its own, with a limit on time and memory. It may be
refused with one of our errors in one line, or be read. A traceback of another error, a
signal, a hang, and voxels that changed though the format could have told are failures.

    python benchmarks/fuzz.py --count 2000 --seed 1 --json found.json

A failure is printed with its number: ``--first NUMBER --count 1`` repeats it, and
``--keep FOLDER`` keeps the mutants that failed.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from fuzz_damage import Target, damage
from fuzz_volumes import volume_targets

from cellseg3d.core.errors import CellSegError

SECONDS, GIB = 20.0, 4
# So much longer a mutant may wait, such as for the processor.
PATIENCE = 6
CPU_TIME_OVER = (signal.SIGXCPU, signal.SIGKILL)
# So many mutants more of each kind of file that is read in milliseconds.
QUICK = 11


def main() -> int:
    """Run the mutants and print what failed; the exit code is 1 if some did."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        targets = make_targets(folder / "intact", given.only)
        quick = [each for each in targets if not each.slow]
        wheel = [*quick * QUICK, *targets]
        begun, failures = time.monotonic(), []
        outcomes: dict[str, dict[str, int]] = {}
        for number in range(given.first, given.first + given.count):
            target = wheel[number % len(wheel)]
            outcome, words = run_case(target, folder, given.seed, number)
            counts = outcomes.setdefault(target.name, {})
            counts[outcome] = counts.get(outcome, 0) + 1
            if outcome not in ("refused", "read", "told"):
                failures.append(
                    {"target": target.name, "number": number, "outcome": outcome}
                    | {"words": words}
                )
                print(f"{target.name} {number}: {outcome}: {words}")
                if given.keep:
                    given.keep.mkdir(parents=True, exist_ok=True)
                    kept = given.keep / f"{number}_{target.name.strip('.')}"
                    shutil.move(folder / "mutant", kept)
    for name, counts in outcomes.items():
        print(f"{name}: {', '.join(f'{n} {what}' for what, n in counts.items())}")
    seconds = time.monotonic() - begun
    print(f"{given.count} mutants, {len(failures)} failures, {seconds:.0f} s")
    if given.json:
        rows = {"seed": given.seed, "count": given.count, "seconds": seconds}
        text = json.dumps(rows | {"outcomes": outcomes, "failures": failures}, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")
    return 1 if failures else 0


def make_targets(folder: Path, only: list[str] | None = None) -> list[Target]:
    """Write one intact file of each kind and return them.

    Parameters
    ----------
    folder : Path
        A new folder.
    only : list of str, optional
        The names of the kinds that are wanted.
    """
    folder.mkdir(parents=True)
    targets = volume_targets(folder)
    if only is None or not {*only} <= {each.name for each in targets}:
        from fuzz_runs import run_targets  # noqa: PLC0415 - torch takes seconds

        targets += run_targets(folder)
    return [each for each in targets if only is None or each.name in only]


def run_case(target: Target, folder: Path, seed: int, number: int) -> tuple[str, str]:
    """Damage a copy, read it in a process of its own, and judge the outcome.

    Returns
    -------
    outcome : str
        ``"refused"``, ``"read"`` (as it was) or ``"told"`` (changed, with a warning or
        where nothing could tell); all else is a failure.
    words : str
        What was said.
    """
    mutant = folder / "mutant"
    if mutant.exists():
        shutil.rmtree(mutant)
    mutant.mkdir()
    copied = target.copied_to(mutant)
    chance = random.Random(f"{seed} {number}")
    _ = target.intact  # read here once, and not by every child
    files = [copied]
    if target.inside:
        files = sorted({f for glob in target.inside for f in copied.rglob(glob)})
        files = [file for file in files if file.is_file()]
    (target.damage or damage)(chance.choice(files), chance)
    return _in_child(target, copied)


def _in_child(target: Target, copied: Path) -> tuple[str, str]:
    """Read a mutant in a forked process and judge how that ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os.close(reader)
        _limit_memory()
        with os.fdopen(writer, "w") as stream:
            stream.write(json.dumps(_read_mutant(target, copied)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        ready, _, _ = select.select([stream], [], [], PATIENCE * SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang", f"no answer in {PATIENCE * SECONDS:.0f} s"
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in CPU_TIME_OVER:
        return "hang", f"no answer in {SECONDS:.0f} s of the processor"
    if os.WIFSIGNALED(status):
        return "signal", f"ended by signal {os.WTERMSIG(status)}"
    outcome, words = json.loads(said)
    return str(outcome), str(words)


def _limit_memory() -> None:
    """Let this process take so many GiB more than it has, and so many seconds."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + GIB * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # Seconds of the processor, because others may use this machine too.
    spent = int(time.process_time() + SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (spent, spent))


def _read_mutant(target: Target, copied: Path) -> tuple[str, str]:
    noise = io.StringIO()
    try:
        with contextlib.redirect_stderr(noise), contextlib.redirect_stdout(noise):
            found = target.read(copied)
    except CellSegError as error:
        return "refused", str(error)
    except MemoryError:
        return "memory", f"more than {GIB} GiB"
    except BaseException as error:
        while error.__cause__ is not None:
            error = error.__cause__
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno} {where.name}"
        return "traceback", f"{type(error).__name__}: {error} ({place})"
    if found is None or found == target.intact:
        return "read", ""
    return ("silent change", found) if found.startswith("silent") else ("told", found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="how many mutants")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0, help="seed of all changes")
    parser.add_argument("--only", nargs="+", help="some kinds of file, such as .tif")
    parser.add_argument("--keep", type=Path, help="keep mutants that failed here")
    parser.add_argument("--json", type=Path, help="write what was found here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
