"""cellseg3d objects: from labels or probabilities to numbered objects."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from cellseg3d.cli.wording import worded
from cellseg3d.core.errors import ConfigError


def command(
    volumes: Annotated[
        list[Path],
        typer.Argument(
            metavar="LABELS_OR_PROBS...",
            help="Class labels, or one probability volume for each class or link.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="File to write the object ids to.")],
    method: Annotated[
        str | None,
        typer.Option(
            help="components, watershed, border-core, affinity or mean-size; unset, "
            "what fits the names of the probabilities, else watershed."
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Foreground from this probability on.")
    ] = 0.5,
    min_volume_um3: Annotated[
        float, typer.Option(help="Drop smaller objects, or join them to a neighbour.")
    ] = 0.0,
    hole_um: Annotated[
        float, typer.Option(help="Fill enclosed holes no larger than this.")
    ] = 0.0,
    smoothing_um: Annotated[
        float, typer.Option(help="Standard deviation of a smoothing Gaussian.")
    ] = 0.0,
    neck: Annotated[
        float,
        typer.Option(help="Cut necks thinner than this fraction of the thinner part."),
    ] = 0.75,
    depth_um: Annotated[
        float | None,
        typer.Option(help="Keep parts together that rise by no more than this."),
    ] = None,
    mean_volume_um3: Annotated[
        float | None, typer.Option(help="Mean volume of one object, for mean-size.")
    ] = None,
    connectivity: Annotated[
        int, typer.Option(help="Neighbours of a voxel, 6, 18 or 26, for components.")
    ] = 6,
    core_threshold: Annotated[
        float, typer.Option(help="Core from this share of core and border on.")
    ] = 0.5,
    strong_affinity: Annotated[
        float, typer.Option(help="Join voxels by links of at least this.")
    ] = 0.9,
    merge_affinity: Annotated[
        float, typer.Option(help="Join regions whose links average at least this.")
    ] = 0.5,
    options_file: Annotated[
        Path | None,
        typer.Option("--options", help="JSON of tuned options, instead of the above."),
    ] = None,
    probs: Annotated[
        bool | None,
        typer.Option(
            "--probs/--labels",
            help="What whole numbers are; unset, labels (but in NAME_prob_CLASS).",
        ),
    ] = None,
    spacing_um: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="Z Y X", help="Voxel edges where the files have none."),
    ] = None,
    block: Annotated[int, typer.Option(help="Voxels along a block's side.")] = 192,
    workers: Annotated[
        int, typer.Option(help="Processes that work on blocks at the same time.")
    ] = 1,
    dask: Annotated[
        str | None,
        typer.Option(help="Work on a Dask cluster: its address, or local:N."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --out if it is there.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write counts and volumes to this file."),
    ] = None,
) -> None:
    """Find single objects and number them by their first voxel."""
    from contextlib import ExitStack  # noqa: PLC0415

    from cellseg3d.core.atomic import atomic_write  # noqa: PLC0415
    from cellseg3d.core.spacing import Spacing  # noqa: PLC0415
    from cellseg3d.io.check import open_input  # noqa: PLC0415
    from cellseg3d.io.fingerprint import unchanged  # noqa: PLC0415
    from cellseg3d.io.ownership import check_outputs  # noqa: PLC0415
    from cellseg3d.objects.files import (  # noqa: PLC0415
        block_map,
        in_class_order,
        named_as_probs,
    )
    from cellseg3d.objects.label import label_objects  # noqa: PLC0415
    from cellseg3d.objects.options import ObjectOptions  # noqa: PLC0415
    from cellseg3d.objects.sizes import least_size_note  # noqa: PLC0415

    files = [path for path in (out, json_file) if path is not None]
    check_outputs(files, [*volumes, *([options_file] if options_file else [])])
    if out.exists() and not overwrite:
        raise ConfigError(f"{out}: exists; pass --overwrite to replace it")
    channels, fitting = in_class_order(volumes)
    given = {
        "method": method or fitting,
        "threshold": threshold,
        "connectivity": connectivity,
        "min_volume_um3": min_volume_um3,
        "hole_um": hole_um,
        "smoothing_um": smoothing_um,
        "depth_um": depth_um,
        "neck": neck,
        "mean_volume_um3": mean_volume_um3,
        "core_threshold": core_threshold,
        "strong_affinity": strong_affinity,
        "merge_affinity": merge_affinity,
    }
    options = ObjectOptions.parse(given)
    if options_file:
        options = ObjectOptions.read(options_file)
    with unchanged(channels), ExitStack() as stack:
        found = label_objects(
            [open_input(path) for path in channels],
            Spacing.of(spacing_um) if spacing_um else None,
            options,
            probs=True if probs is None and named_as_probs(volumes) else probs,
            out=out,
            block=block,
            map_blocks=block_map(stack, workers, dask),
        )
    summary = _summary(found, out)
    print(_line(summary))
    if note := least_size_note(found):
        print(worded(note))
    if found.unit == "voxels":
        print(
            "spacing unknown: every length and volume is in voxels; "
            "give --spacing-um Z Y X to have um"
        )
    if json_file:
        text = json.dumps(summary, indent=1) + "\n"
        atomic_write(json_file, lambda new: _put(new, text))


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _summary(found: Any, out: Path) -> dict[str, Any]:  # noqa: ANN401
    counts = Counter(found.classes.tolist())
    classes = [{"class": value, "objects": counts[value]} for value in sorted(counts)]
    volumes = sorted(found.volumes.tolist())
    return {
        "file": str(out),
        "objects": found.count,
        "classes": classes,
        "volume_unit": f"{found.unit}^3" if found.unit == "um" else "voxels",
        "median_volume": volumes[len(volumes) // 2] if volumes else None,
        "specks": found.specks,
        "volumes": found.volumes.tolist(),
        "dtype": str(found.volume.dtype),
        "options": found.options.as_dict(),
    }


def _line(summary: dict[str, Any]) -> str:
    text = f"{summary['file']}: {summary['objects']} objects"
    if summary["objects"]:
        median = f"{summary['median_volume']:.4g} {summary['volume_unit']}"
        text += f", median volume {median}"
    return f"{text} ({summary['dtype']}, {summary['options']['method']})"
