"""Put one page together: a section for whatever there is, nothing fetched."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cellseg3d import __version__
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.core.extras import missing_extra
from cellseg3d.metrics.temperature import known_errors
from cellseg3d.report.benchmark_folder import (
    BenchmarkFolder,
    benchmark_sections,
    left_out,
)
from cellseg3d.report.evaluation import ReportScores, score_volumes
from cellseg3d.report.expected import expected_rows
from cellseg3d.report.explanations import explanations_of
from cellseg3d.report.figures import (
    calibration_charts,
    curve_charts,
    interval_figure,
    overlap_charts,
)
from cellseg3d.report.inputs import ReportVolume, check_volume, settle_kind
from cellseg3d.report.legend import Legend, legend_of
from cellseg3d.report.methods import methods_paragraph, training_names
from cellseg3d.report.montage import MOST_VOXELS, pack
from cellseg3d.report.object_rows import object_rows
from cellseg3d.report.object_sets import ObjectSet, object_sets
from cellseg3d.report.run_folder import RunFolder
from cellseg3d.report.sizes import size_charts, size_rows, size_tiles, sizes_of
from cellseg3d.report.surfaces import surfaces
from cellseg3d.report.tables import cost_rows, score_rows, tiles, volume_rows

TEMPLATES = Path(__file__).parent / "templates"
LARGEST_BYTES = 15_000_000
SCRIPTS = ("page.js", "viewer.js", "surface.js")


@dataclass(frozen=True)
class ReportInput:
    """What a page is made from.

    Parameters
    ----------
    run : RunFolder or None
    benchmark : BenchmarkFolder or None
    volumes : sequence of ReportVolume
    ids : bool or None
        Whether label values are object ids; told from their number when None.
    classes : sequence of str
        Class names by value, background first.
    title : str
        What the page is called; made up from what there is when empty.
    """

    run: RunFolder | None = None
    benchmark: BenchmarkFolder | None = None
    volumes: Sequence[ReportVolume] = ()
    ids: bool | None = None
    classes: Sequence[str] = field(default_factory=tuple)
    title: str = ""


def write_report(given: ReportInput, out: Path) -> int:
    """Write the page.

    Volumes are thinned until the page is smaller than 15 MB.

    Returns
    -------
    int
        The size of the file in bytes.

    Raises
    ------
    ConfigError
        If there is nothing to report.
    EnvironmentFault
        If the extra ``report`` is not installed, or the page cannot be small enough.
    """
    if given.run is None and given.benchmark is None and not given.volumes:
        raise ConfigError("nothing to report: give a run folder or `prediction`")
    volumes, ids = settle_kind(given.volumes, ids=given.ids)
    given = replace(given, volumes=volumes)
    scores = score_volumes(given.volumes, ids=ids, classes=_classes(given))
    most = MOST_VOXELS
    while True:
        text = render(page_values(given, scores, ids=ids, most=most))
        size = len(text.encode("utf-8", "backslashreplace"))
        if size < LARGEST_BYTES:
            break
        if most < 1 << 15:
            message = f"{out}: page of {size} bytes; report fewer volumes at once"
            raise EnvironmentFault(message)
        most //= 2
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    return size


def page_values(
    given: ReportInput, scores: ReportScores, *, ids: bool, most: int
) -> dict[str, Any]:
    """Return what the template shows; a section without data is empty."""
    run, volumes, classes = given.run, given.volumes, _classes(given)
    versions = _versions(given)
    legend = legend_of(volumes, ids=ids, classes=classes)
    viewers, tables, sizes = [], [], []
    for index, volume in enumerate(volumes):
        meshes = surfaces(volume, legend)
        viewers.append(_viewer(volume, legend, most) | {"surfaces": meshes})
        sets = list(object_sets(volume, ids=ids, classes=classes))
        sizes += [sizes_of(volume, each) for each in sets]
        tables.append(_object_table(volume, sets, index))
    tables = [table for table in tables if table["rows"]]
    first = tiles(run, scores)
    return {
        "title": given.title or _title(given),
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "run": run,
        "ids": ids,
        "legend": legend.as_values(),
        "sides": _sides(volumes),
        "tiles": first if scores.table else [*size_tiles(sizes, ids=ids), *first],
        "benchmark": benchmark_sections(given.benchmark) if given.benchmark else [],
        "left_out": left_out(given.benchmark) if given.benchmark else [],
        "checks": [check_volume(volume) for volume in volumes],
        "warnings": list(run.record.get("warnings", [])) if run else [],
        "curves": curve_charts(run) if run else [],
        "intervals": interval_figure(scores),
        "score_rows": score_rows(scores),
        "volumes": volume_rows(scores, run),
        "overlaps": overlap_charts(scores),
        "expected": expected_rows(volumes, scores),
        "explanations": explanations_of(volumes),
        "calibration": calibration_charts(scores),
        "temperatures": _temperatures(given),
        "viewers": viewers,
        "sizes": size_rows(sizes, ids=ids),
        "size_charts": size_charts(sizes, ids=ids),
        "objects": tables,
        "costs": cost_rows(run) if run else [],
        "methods": methods_paragraph(run, volumes, scores, versions),
        "method_names": training_names(run),
        "versions": versions,
        "hashes": _hashes(given),
        "data": _script_json({"viewers": viewers, "legend": legend.as_values()}),
    }


def _sides(volumes: Sequence[ReportVolume]) -> list[str]:
    """Return what the pictures can show; each appears where a volume has it."""
    sides = ["prediction"]
    if any(volume.truth is not None for volume in volumes):
        sides += ["truth", "errors"]
    return ["image", *sides] if any(volume.image for volume in volumes) else sides


def _object_table(
    volume: ReportVolume, sets: Sequence[ObjectSet], viewer: int
) -> dict[str, Any]:
    """Return the objects of a volume as a table, without the columns that are empty."""
    rows, total = object_rows(volume, sets)
    size = f"{'area' if volume.flat else 'volume'} ({volume.size_unit})"
    names = {
        "id": "id",
        "kind": "class",
        "state": "state",
        "iou": "best IoU",
        "size": size,
        "voxels": "pixels" if volume.flat else "voxels",
        "sphericity": "sphericity",
        "intensity": "mean intensity",
    }
    alone = len({row["kind"] for row in rows}) == 1
    if alone:
        del names["kind"]
    if volume.truth is None:
        del names["state"]
    shown = [key for key in names if any(row.get(key) is not None for row in rows)]
    return {
        "name": volume.name,
        "viewer": viewer,
        "head": [*(names[key] for key in shown), *("zyx"[volume.flat :])],
        "keys": shown,
        "from": int(volume.flat),
        "rows": rows,
        "total": total,
    }


def render(values: dict[str, Any]) -> str:
    """Return the page's text; every value from outside is escaped."""
    try:
        from jinja2 import (  # noqa: PLC0415
            Environment,
            FileSystemLoader,
            StrictUndefined,
        )
        from markupsafe import Markup  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise missing_extra(f"a report needs {error.name}", "report") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Our own files, and SVG and JSON that escaped what they hold when they were made.
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    scripts = "\n".join(
        (TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS
    )
    text: str = environment.get_template("page.html").render(
        **values,
        style=style,
        scripts=Markup(scripts),
    )
    return text


def _viewer(volume: ReportVolume, legend: Legend, most: int) -> dict[str, Any]:
    montage = pack(volume, legend, most)
    return {
        "name": volume.name,
        "shape": montage.shape,
        "step": montage.step,
        "full": volume.prediction.shape,
        "edges": volume.edges,
        "unit": volume.unit,
        "columns": montage.columns,
        "image": montage.image,
        "prediction": montage.prediction,
        "truth": montage.truth,
        "worst": montage.worst,
    }


def _classes(given: ReportInput) -> Sequence[str]:
    """Return the class names: those given, the run's, or those of the records."""
    if given.classes:
        return given.classes
    classes: Sequence[str] = ()
    if given.run is not None:
        classes = given.run.record.get("data", {}).get("classes", ())
    stated = {volume.classes for volume in given.volumes}
    return classes or (stated.pop() if len(stated) == 1 else ())


def _temperatures(given: ReportInput) -> list[str]:
    """Return what the temperatures of the run and of the models have changed."""
    stated = [] if given.run is None else [given.run.record.get("confidence")]
    for volume in given.volumes:
        stated += [model.get("confidence") for model in volume.models]
    found = [sentence for each in stated for sentence in known_errors(each)]
    return list(dict.fromkeys(found))


def _versions(given: ReportInput) -> dict[str, str]:
    versions: dict[str, str] = {}
    if given.benchmark is not None:
        found = given.benchmark.values.get("versions", {})
        versions |= {name: ", ".join(each) for name, each in found.items()}
    if given.run is not None:
        versions |= given.run.record.get("versions", {})
    return {"cellseg3d": __version__} | versions


def _title(given: ReportInput) -> str:
    if given.benchmark is not None:
        return f"Benchmark {given.benchmark.path.resolve().name}"
    if given.run is not None:
        return given.run.path.resolve().name
    if len(given.volumes) == 1:
        return given.volumes[0].name
    return f"{len(given.volumes)} volumes"


def _hashes(given: ReportInput) -> list[tuple[str, str]]:
    """Return (what, SHA-256) of every input file, and those the run recorded."""
    found = []
    for volume in given.volumes:
        for side, path in volume.paths.items():
            file = Path(path.partition("::")[0])
            if file.is_file():
                with file.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                found.append((f"{volume.name} {side} ({file.name})", digest))
    if given.run is not None:
        content = given.run.record.get("data", {}).get("content", {})
        found += [
            (f"training data {name}", str(value)) for name, value in content.items()
        ]
        commit = given.run.record.get("git_commit")
        if commit:
            found.append(("source commit", str(commit)))
    return found


def _script_json(values: Any) -> Any:  # noqa: ANN401
    from markupsafe import Markup  # noqa: PLC0415

    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    # No text in it can end the script element that it stands in.
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))
