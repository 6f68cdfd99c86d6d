"""``cellseg3d objects``: number the single objects in labels or probabilities."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from cellseg3d.cli.terminal.reading_options import SpacingUm
from cellseg3d.cli.terminal.wording import worded
from cellseg3d.core.errors import ConfigError

logger = logging.getLogger(__name__)


def command(
    volumes: Annotated[
        list[Path],
        typer.Argument(
            metavar="LABELS_OR_PROBS",
            help="One volume of class labels, or one volume of probabilities for each "
            "class or link.",
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option(help="Write the ids of the objects to this file.")
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="Separate objects by components, watershed, border-core, affinity or "
            "mean-size. By default, the names of the probabilities decide, or else it "
            "is watershed."
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            help="Take voxels for foreground whose probability is at least this."
        ),
    ] = 0.5,
    min_volume_um3: Annotated[
        float,
        typer.Option(
            help="Join objects below this volume to a touching neighbour, or drop them "
            "if there is none."
        ),
    ] = 0.0,
    hole_um: Annotated[
        float,
        typer.Option(
            help="Fill enclosed holes that are no longer than this along any axis."
        ),
    ] = 0.0,
    smoothing_um: Annotated[
        float,
        typer.Option(
            help="Smooth probabilities by a Gaussian of this standard deviation."
        ),
    ] = 0.0,
    neck: Annotated[
        float,
        typer.Option(
            help="Cut two parts at their neck if it is thinner than this fraction of "
            "the thinner part."
        ),
    ] = 0.75,
    depth_um: Annotated[
        float | None,
        typer.Option(
            help="Keep two parts together if the smaller one is deeper than their neck "
            "by no more than this; by default, the smallest voxel edge. Depth is the "
            "distance to the boundary."
        ),
    ] = None,
    mean_volume_um3: Annotated[
        float | None,
        typer.Option(help="Expect this mean volume of an object (for mean-size)."),
    ] = None,
    connectivity: Annotated[
        int,
        typer.Option(help="Let a voxel have 6, 18 or 26 neighbours (for components)."),
    ] = 6,
    core_threshold: Annotated[
        float,
        typer.Option(
            help="Take voxels of an object for core whose core has at least this share "
            "of the probability of core and border (for border-core)."
        ),
    ] = 0.5,
    strong_affinity: Annotated[
        float,
        typer.Option(
            help="Join voxels whose link has at least this probability (for affinity)."
        ),
    ] = 0.9,
    merge_affinity: Annotated[
        float,
        typer.Option(
            help="Join regions whose links have at least this mean probability (for "
            "affinity)."
        ),
    ] = 0.5,
    options_file: Annotated[
        Path | None,
        typer.Option(
            "--options",
            help="Take the options above from this JSON file, such as one that "
            "`cellseg3d tune --decoder` has written.",
        ),
    ] = None,
    probs: Annotated[
        bool | None,
        typer.Option(
            "--probs/--labels",
            help="Say what whole numbers in the volumes are. By default they are "
            "probabilities in files named NAME_prob_CLASS, and labels in others.",
        ),
    ] = None,
    spacing_um: SpacingUm = None,
    block: Annotated[
        int, typer.Option(help="Work on blocks of this many voxels a side.")
    ] = 192,
    workers: Annotated[
        int, typer.Option(help="Work on blocks in this many processes at once.")
    ] = 1,
    dask: Annotated[
        str | None,
        typer.Option(
            help="Work on a Dask cluster: give its address, or local:N for N processes "
            "on this machine."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --out if it exists.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write counts and volumes to this JSON file."),
    ] = None,
) -> None:
    """Find and number the single objects in a volume.

    Objects are numbered in the order of their first voxels, from 1. Options in um are
    in voxels if the spacing is not known.
    """
    from contextlib import ExitStack  # noqa: PLC0415

    from cellseg3d.core.atomic import write_text  # noqa: PLC0415
    from cellseg3d.io.check import open_input  # noqa: PLC0415
    from cellseg3d.io.fingerprint import unchanged  # noqa: PLC0415
    from cellseg3d.io.labels import doubt_labels  # noqa: PLC0415
    from cellseg3d.io.output.ownership import check_outputs  # noqa: PLC0415
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
        raise ConfigError(f"{out}: already exists; give --overwrite to replace it")
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
        opened = [open_input(path, spacing=spacing_um) for path in channels]
        if not probs and (doubt := doubt_labels(opened[0])):
            logger.warning("%s: %s", channels[0], doubt)
        found = label_objects(
            opened,
            None,
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
            "spacing unknown: lengths and volumes are in voxels; give --spacing-um "
            "Z Y X to have them in um"
        )
    if json_file:
        text = json.dumps(summary, indent=1) + "\n"
        write_text(json_file, text)


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
