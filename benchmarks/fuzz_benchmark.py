"""A study, its records and its values for fuzz.py to damage."""

from pathlib import Path

import yaml
from fuzz_damage import Target

from cellseg3d.benchmark.record import Record, recipe_of, write_record
from cellseg3d.benchmark.results import VALUES, write_results
from cellseg3d.benchmark.study import load_study
from cellseg3d.report.benchmark_folder import (
    benchmark_sections,
    left_out,
    read_benchmark,
)

STUDY = {
    "name": "fuzz",
    "question": "does it hold?",
    "datasets": [
        {
            "name": "cells",
            "simulate": {"n": 4, "shape": 24, "voxel_um": 0.1, "mount": "capillary"},
            "target": "nucleus",
            "tests": [["cell_002", "cell_003"]],
            "objects": True,
        }
    ],
    "methods": [
        {"name": "2D", "bundle": "cell_tomo_unet2d", "reference": True, "plan": True},
        {"name": "two", "of": ["2D"], "axes": "zy", "predict": ["--tta"]},
    ],
    "seeds": [0, 1],
    "minutes": 1,
    "clock": "cpu",
    "compare": [["two", "2D"]],
}


def benchmark_targets(folder: Path) -> list[Target]:
    """Write a study and the results that its jobs could have had.

    Parameters
    ----------
    folder : Path
        Where to write; it exists.
    """
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    study, out = load_study(path), folder / "benchmark"
    for number, job in enumerate(study.jobs()):
        scores = {"dice": 0.7 + number / 50, "object_f1": 0.5, "hd95_um": "inf"}
        record = Record(
            job.key, study.name, job.dataset.name, job.dataset.target, job.method.name,
            job.fold, job.seed, recipe_of(job, study), "done",
            volumes={
                case: {"unit": case, "scores": scores | {"assd_um": None}}
                for case in ("cell_002", "cell_003")
            },
            training={"elapsed_s": 60.0, "cpu_s": 60.0, "peak_gib": 1.0},
            prediction={
                "elapsed_s": 6.0, "cpu_s": 6.0, "peak_gib": 1.0, "volumes_s": 4.0,
            },
            parameters=1000,
            warnings=["too few specimens"],
            versions={"torch": "2"},
            machine={"system": "Linux", "threads": 1, "gpu": None},
        )  # fmt: skip
        write_record(record, out)
    write_results(study, out)

    def read_study(place: Path) -> None:
        read = load_study(place)
        for job in read.jobs():
            recipe_of(job, read)

    def read_records(place: Path) -> None:
        write_results(study, place)

    def read_values(place: Path) -> None:
        found = read_benchmark(place)
        benchmark_sections(found)
        left_out(found)

    return [
        Target("study", path, (), read_study),
        Target("benchmark records", out, ("records/*.json",), read_records),
        Target("benchmark values", out, (VALUES,), read_values),
    ]
