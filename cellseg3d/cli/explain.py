"""``cellseg3d explain``: show why a network gave an object its label."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg3d.cli.terminal.reading_options import (
    Channel,
    Channels,
    ReadAs,
    SpacingUm,
    Time,
    opening_of,
)
from cellseg3d.cli.terminal.trust_option import Trust

if TYPE_CHECKING:
    from cellseg3d.explanation.explain import Explanation


def command(
    volume: Annotated[
        str, typer.Argument(metavar="VOLUME", help="The image that was segmented.")
    ],
    *,
    bundle: Annotated[
        Path,
        typer.Option(
            metavar="BUNDLE",
            help="Explain this trained network: a bundle's name or folder, or a run.",
        ),
    ],
    object_id: Annotated[
        int | None,
        typer.Option(
            "--object",
            metavar="ID",
            min=1,
            help="Explain the object of this id in --labels.",
        ),
    ] = None,
    point: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="Z Y X",
            min=0,
            help="Explain the object at this place, in voxels counted from 0.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Take the object from this file of object ids or classes, such as "
            "NAME_objects; by default, from what the network predicts at --point.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Write the results here.")] = Path(),
    method: Annotated[
        str,
        typer.Option(help="Attribute with integrated-gradients or gradient-x-input."),
    ] = "integrated-gradients",
    top: Annotated[
        int, typer.Option(min=1, help="List this many filters of each layer.")
    ] = 3,
    spacing_um: SpacingUm = None,
    channel: Channel = None,
    channels: Channels = None,
    time: Time = None,
    read_as: ReadAs = None,
    suffix: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Write the attribution with this suffix, such as .ome.zarr; by "
            "default, with that of the volume.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist.")
    ] = False,
    trust: Trust = None,
) -> None:
    """Explain why a network gave an object its label.

    Of the volume NAME, the picture NAME_explain_OBJECT.png shows the object, which
    voxels raise its score (attribution), where its score falls if a cube is blurred
    (occlusion), and the filters that respond to it. The attribution is also written as
    a volume, and all numbers as JSON, with a test: without the voxels that are named,
    the score must fall more than without as many random ones. It needs the extra
    `explain`.
    """
    del trust  # its callback has acted
    from cellseg3d.bundle.model import load_model  # noqa: PLC0415
    from cellseg3d.explanation.explain import (  # noqa: PLC0415
        ExplainOptions,
        explain,
        write_explanation,
    )
    from cellseg3d.io.output.ownership import check_outputs  # noqa: PLC0415
    from cellseg3d.io.registry import open_volume  # noqa: PLC0415
    from cellseg3d.prediction.batch import tasks_of  # noqa: PLC0415
    from cellseg3d.prediction.opening import open_for  # noqa: PLC0415

    opening = opening_of(spacing_um, channel, channels, time, read_as)
    [task] = tasks_of([volume], out, suffix)
    check_outputs([task.labels], [task.source])
    model = load_model(bundle)
    image = open_for(task.source, [model], **opening)
    found = explain(
        image,
        model,
        object_id=object_id,
        point=point,
        labels=None if labels is None else open_volume(labels),
        options=ExplainOptions(method, top),
    )
    paths = write_explanation(found, image, task.labels, overwrite=overwrite)
    print("\n".join(_lines(found)))
    print(f"wrote {', '.join(str(path) for path in paths)}")


def _lines(found: "Explanation") -> list[str]:
    """Return what was found in sentences."""
    record = found.record
    tested = record["deletion"]
    lines = [
        f"{record['object']}: {record['class']}, {record['voxels']:,} voxels, mean log "
        f"odds {tested['score']:.2f}"
    ]
    if record["cut"]:
        lines.append(
            "the object is larger than what can be explained, so a part of it is"
        )
    lines += [
        f"without {row['voxels']:,} of the voxels that are named, the score falls by "
        f"{row['fall']:.2f}; without as many random ones, by {row['fall_random']:.2f}"
        for row in tested["rows"]
    ]
    if not tested["holds"]:
        lines.append(
            "the attribution does not pass this test, so do not rely on it for this "
            "object"
        )
    best = max(record["filters"], key=lambda row: row["contrast"], default=None)
    if best is not None:
        lines.append(
            f"filter {best['filter']} of {best['layer']} responds most: "
            f"{best['contrast']:+.2f} standard deviations"
        )
    return lines
