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
import copy
import hashlib
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
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cellseg3d.core.errors import CellSegError
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.doctor.sources import read_what_reads
from cellseg3d.io.check import check_volume
from cellseg3d.io.registry import open_volume, write_labels, write_volume
from cellseg3d.objects.options import ObjectOptions

SECONDS, GIB = 20.0, 4
VOLUMES = (
    ".tif",
    ".ome.tif",
    ".nii",
    ".nii.gz",
    ".mrc",
    ".h5",
    ".zarr",
    ".png",
    "",
)
# Formats whose own checksums cover the voxels: none may change without a word.
CHECKED = (".nii.gz", ".png")
# Values that programs and people put where another was meant.
ODD = (
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    2**70,
    "",
    "x",
    "../..",
    "a\nb",
    [],
    {},
    [[]],
    {"a": 1},
    "$import os",
    "@missing",
    ["a", 1, None],
)


@dataclass(frozen=True)
class Target:
    """A kind of file: where an intact one lies, and how it is read.

    Parameters
    ----------
    name : str
    place : Path
        The file or folder to copy.
    inside : tuple of str
        Glob patterns of the files in the folder to damage; empty for a file.
    read : callable
        Reads the copy and returns what it holds, as text; None where that cannot be
        compared.
    """

    name: str
    place: Path
    inside: tuple[str, ...]
    read: Callable[[Path], str | None]

    @cached_property
    def intact(self) -> str | None:
        """What the file holds before it is damaged."""
        return self.read(self.place)


def main() -> int:
    """Run the mutants and print what failed; the exit code is 1 if some did."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        targets = make_targets(folder / "intact", given.only)
        begun, failures = time.monotonic(), []
        outcomes: dict[str, dict[str, int]] = {}
        for number in range(given.first, given.first + given.count):
            target = targets[number % len(targets)]
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


def make_targets(folder: Path, only: str | None = None) -> list[Target]:
    """Write one intact file of each kind and return them.

    Parameters
    ----------
    folder : Path
        A new folder.
    only : str, optional
        The name of the one kind that is wanted.
    """
    folder.mkdir(parents=True)
    targets = [_volume_target(folder, suffix) for suffix in VOLUMES]
    targets += _data_targets(folder)
    if only is None or only.startswith("run"):
        targets += _run_targets(folder)
    return [each for each in targets if only in (None, each.name)]


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
    copied = mutant / target.place.name
    if target.place.is_dir():
        shutil.copytree(target.place, copied)
    else:
        shutil.copyfile(target.place, copied)
    chance = random.Random(f"{seed} {number}")
    _ = target.intact  # read here once, and not by every child
    files = [copied]
    if target.inside:
        files = sorted({f for glob in target.inside for f in copied.rglob(glob)})
        files = [file for file in files if file.is_file()]
    damage(chance.choice(files), chance)
    return _in_child(target, copied)


def damage(file: Path, chance: random.Random) -> None:
    """Change a file: its bytes, or what its JSON or YAML says."""
    if file.suffix in (".json", ".yaml") and chance.random() < 0.7:
        _change_values(file, chance)
        return
    data = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        _change_bytes(data, chance)
    file.write_bytes(data)


def _change_bytes(data: bytearray, chance: random.Random) -> None:
    if not data:
        data += b"x"
        return
    # Headers are worth more than their share of the bytes.
    reach = len(data) if chance.random() < 0.5 else min(len(data), 600)
    at = chance.randrange(reach)
    kind = chance.randrange(7)
    if kind == 0:
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        width = chance.choice((1, 2, 4, 8))
        value = chance.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1)))
        data[at : at + width] = value.to_bytes(width, chance.choice(("little", "big")))
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        del data[at : at + chance.randrange(1, 64)]
    elif kind == 4:
        data[at:at] = data[at : at + chance.randrange(1, 64)]
    elif kind == 5:
        data += bytes(chance.randrange(1, 200))
    else:
        length = chance.randrange(1, 64)
        data[at : at + length] = bytes(chance.randrange(256) for _ in range(length))


def _change_values(file: Path, chance: random.Random) -> None:
    """Replace, remove or add one value somewhere in a JSON or YAML file."""
    text = file.read_text(encoding="utf-8")
    values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    nodes: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:  # noqa: ANN401
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            nodes.append((node, key))
            if isinstance(node[key], dict | list):
                collect(node[key])

    if isinstance(values, dict | list):
        collect(values)
    node, key = chance.choice(nodes)
    kind = chance.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[str(chance.choice(ODD))] = copy.deepcopy(node[key])
    else:
        node[key] = copy.deepcopy(chance.choice(ODD))
    dump = json.dumps if file.suffix == ".json" else yaml.safe_dump
    written = dump(values)
    file.write_text(written, encoding="utf-8")


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
        ready, _, _ = select.select([stream], [], [], SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang", f"no answer in {SECONDS:.0f} s"
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "signal", f"ended by signal {os.WTERMSIG(status)}"
    outcome, words = json.loads(said)
    return str(outcome), str(words)


def _limit_memory() -> None:
    """Let this process take so many GiB more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + GIB * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


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
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno} {where.name}"
        return "traceback", f"{type(error).__name__}: {error} ({place})"
    if found is None or found == target.intact:
        return "read", ""
    return ("silent change", found) if found.startswith("silent") else ("told", found)


def _volume_target(folder: Path, suffix: str) -> Target:
    rng = np.random.default_rng(7)
    depth = 1 if suffix == ".png" else 5
    image = rng.integers(0, 200, (depth, 24, 20)).astype(np.uint8)
    spacing = Spacing(0.2, 0.1, 0.1)
    if suffix == ".png":
        spacing = Spacing(0.1, 0.1, 0.1)
    place = folder / f"volume{suffix}"
    write_volume(place, Volume(image, spacing))
    whole = place.is_dir()

    def read(path: Path) -> str | None:
        findings = check_volume(path)
        volume = findings.volume
        array = volume.read()
        digest = hashlib.sha256(array.tobytes()).hexdigest()[:12]
        told = bool(findings.warnings or volume.provenance.get("told"))
        same_shape = array.shape == image.shape
        # What neither a checksum nor a size could have told is no fault.
        checked = suffix in CHECKED or (not suffix and whole)
        wrong = not same_shape or (checked and not np.array_equal(array, image))
        mark = "silent" if wrong and not told else "said"
        return f"{mark} {array.shape} {array.dtype} {digest}"

    return Target(suffix or "slices", place, ("*",) if whole else (), read)


def _data_targets(folder: Path) -> list[Target]:
    """Return a datalist in JSON and in YAML, and options of objects."""
    place = folder / "data"
    place.mkdir()
    label = np.zeros((6, 8, 8), np.uint8)
    label[2:4, 2:6, 2:6] = 1
    cases = []
    for name in "ab":
        write_volume(place / f"{name}.tif", Volume(label * 90 + 5))
        write_labels(place / f"{name}_label.tif", Volume(label))
        cases.append(
            {
                "name": name,
                "image": f"{name}.tif",
                "label": f"{name}_label.tif",
                "group": name,
                "spacing_um": [0.2, 0.1, 0.1],
                "annotated": ["background", "cell"],
                "annotated_slices": [1, 2, 3],
                "read_as": "slices",
            }
        )
    values = {
        "name": "fuzz",
        "classes": ["background", "cell"],
        "labels": "classes",
        "label_map": {"1": 1},
        "intensity_unit": "arbitrary",
        "cases": cases,
    }
    (place / "list.json").write_text(json.dumps(values))
    (place / "list.yaml").write_text(yaml.safe_dump(values))
    options = folder / "options.json"
    options.write_text(json.dumps({"options": ObjectOptions().as_dict()}))

    def read(name: str) -> Callable[[Path], None]:
        def look(path: Path) -> None:
            read_what_reads(path / name)
            load_datalist(path / name)

        return look

    return [
        Target("list.json", place, ("list.json",), read("list.json")),
        Target("list.yaml", place, ("list.yaml",), read("list.yaml")),
        Target("options.json", options, (), _read_options),
    ]


def _run_targets(folder: Path) -> list[Target]:
    """Train for a moment and predict, and return what lies in the two folders."""
    import cellseg3d  # noqa: PLC0415 - torch takes seconds

    rng = np.random.default_rng(3)
    data = folder / "training"
    data.mkdir()
    for name in "ab":
        label = np.zeros((1, 48, 48), np.uint8)
        label[:, 12:30, 8:40] = 1
        image = (label * 80 + 60 + rng.normal(0, 5, label.shape)).astype(np.uint8)
        write_volume(data / f"{name}_image.tif", Volume(image))
        write_labels(data / f"{name}_label.tif", Volume(label))
    options = cellseg3d.TrainOptions(
        epochs=1,
        calibrate=False,
        progress=False,
        device="cpu",
        settings={"train::dataset::samples": 4, "network_def::channels": [4, 8]},
    )
    run = cellseg3d.train("cell_tomo_unet2d", data, folder / "run", options)
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    (run / "models" / "model.pt").unlink(missing_ok=True)
    (run / "models" / "last.safetensors").unlink(missing_ok=True)
    return [
        Target("run configs", run, ("configs/*.json",), _read_run),
        Target("run weights", run, ("models/model.safetensors",), _read_run),
        Target("run records", run, ("run.json", "models/decoder.json"), _read_run),
        _prediction_target(folder, run, data),
    ]


def _prediction_target(folder: Path, run: Path, data: Path) -> Target:
    import cellseg3d  # noqa: PLC0415 - torch takes seconds
    from cellseg3d.prediction.segment import segment_to_file  # noqa: PLC0415
    from cellseg3d.scoring.meaning import meaning_of  # noqa: PLC0415

    out = folder / "predicted"
    out.mkdir()
    volume = open_volume(data / "a_image.tif")
    segment_to_file(volume, [cellseg3d.load_model(run)], out / "a_labels.tif")

    def read(path: Path) -> None:
        meaning_of(str(path / "a_labels.tif"))

    return Target("run prediction", out, ("a_labels.json",), read)


def _read_run(run: Path) -> None:
    """Read a run folder as all verbs together do."""
    from cellseg3d.bundle.model import load_model  # noqa: PLC0415
    from cellseg3d.bundle.trust import refuse_foreign_code  # noqa: PLC0415
    from cellseg3d.prediction.tune_objects import decoder_of  # noqa: PLC0415
    from cellseg3d.report.run_folder import read_run  # noqa: PLC0415
    from cellseg3d.runs.record import RunRecord, changed_data  # noqa: PLC0415

    for name in ("train", "evaluate"):
        path = run / "configs" / f"{name}.json"
        refuse_foreign_code(read_mapping(path), path)
    decoder_of(load_model(run), None)
    RunRecord(run)
    changed_data(run, {"content": {"a": ""}})
    found = read_run(run)
    found.best_scores()
    found.curve("loss")


def _read_options(path: Path) -> None:
    ObjectOptions.read(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="how many mutants")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0, help="seed of all changes")
    parser.add_argument("--only", help="one kind of file, such as .tif")
    parser.add_argument("--keep", type=Path, help="keep mutants that failed here")
    parser.add_argument("--json", type=Path, help="write what was found here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
