"""``cellseg3d predict``: segment volumes with trained networks."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg3d.cli.terminal.acceleration import AccelerationOption
from cellseg3d.cli.terminal.reading_options import (
    Channel,
    Channels,
    ReadAs,
    SpacingUm,
    opening_of,
)
from cellseg3d.cli.terminal.trust_option import Trust
from cellseg3d.cli.terminal.wording import line_of
from cellseg3d.core.errors import CellSegError, ConfigError, InputError
from cellseg3d.core.words import counted

if TYPE_CHECKING:
    from cellseg3d.bundle.model import TrainedModel
    from cellseg3d.io.registry import Opening
    from cellseg3d.objects.options import ObjectOptions
    from cellseg3d.prediction.batch import Task
    from cellseg3d.prediction.options import SegmentOptions


ALL_TIMES = "all"


def command(
    volumes: Annotated[
        list[str],
        typer.Argument(
            metavar="VOLUME", help="The volumes to segment, or folders of volumes."
        ),
    ],
    *,
    bundle: Annotated[
        list[Path],
        typer.Option(
            metavar="BUNDLE",
            help="Use this trained network: a bundle's name or folder, or a run of "
            "`cellseg3d train`. Give the option several times to fuse the "
            "probabilities of several networks.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the results here.")] = Path(),
    axes: Annotated[
        str | None,
        typer.Option(
            help="Let 2D and 2.5D networks segment the slices across each of these "
            "axes, such as zyx; by default, across the axis that they trained on."
        ),
    ] = None,
    fuse: Annotated[
        str,
        typer.Option(
            help="Combine the probabilities of several axes and networks like this: "
            "mean, weighted (an axis counts more if its slices have finer pixels), "
            "product, vote, maximum, learned (with weights that the bundle holds), or "
            "auto: learned if the bundle holds weights, weighted otherwise."
        ),
    ] = "auto",
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Segment flipped and turned copies as well and fuse them. This is "
            "slower and often better.",
        ),
    ] = False,
    adapt: Annotated[
        str,
        typer.Option(
            help="Measure the network's normalisation on each volume: on, off, or "
            "auto: if the bundle gains by it, or the volume does not look like those "
            "of the training."
        ),
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="Compute on auto, cpu, cuda, or mps (an Apple GPU).")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="Compute in auto, float32, bfloat16 or int8.")
    ] = "auto",
    acceleration: AccelerationOption = "auto",
    max_ram: Annotated[
        str | None, typer.Option(help="Use at most this much memory, such as 4G.")
    ] = None,
    max_vram: Annotated[
        str | None, typer.Option(help="Use at most this much memory of the GPU.")
    ] = None,
    probs: Annotated[
        str | None,
        typer.Option(
            help="Also write the probability of each class, as uint8 or float16."
        ),
    ] = None,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also write the uncertainty of each voxel, from 0 to 1.",
        ),
    ] = False,
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay",
            help="Also draw the labels (with --objects, the objects) over the image, "
            "as NAME_overlay.png: the middle slice across each axis.",
        ),
    ] = False,
    objects: Annotated[
        bool,
        typer.Option(
            "--objects",
            help="Also number the single objects. The probabilities in which they are "
            "found are written, too, as the network gives them: without the "
            "temperature that it may hold.",
        ),
    ] = False,
    objects_options: Annotated[
        Path | None,
        typer.Option(
            help="Find objects with the settings in this JSON file, such as one that "
            "`cellseg3d tune --decoder` has written."
        ),
    ] = None,
    min_volume_um3: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Leave out objects below this volume in um^3, or in voxels if the "
            "spacing is unknown. By default, this is half the volume of the smallest "
            "training objects.",
        ),
    ] = None,
    skip_empty: Annotated[
        bool,
        typer.Option(
            "--skip-empty",
            help="Take windows that are empty by the bundle's threshold for "
            "background, without computing them.",
        ),
    ] = False,
    rescale: Annotated[
        bool | None,
        typer.Option(
            "--rescale/--no-rescale",
            help="Resample volumes to the voxel size of the training, or leave them "
            "as they are. By default, they are resampled if those of the training "
            "were.",
        ),
    ] = None,
    spacing_um: SpacingUm = None,
    channel: Channel = None,
    channels: Channels = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="all|NUMBER",
            help="Of a file of several time points, segment all into one file that "
            "keeps the axis of time, or only this one, counted from 0.",
        ),
    ] = None,
    read_as: ReadAs = None,
    suffix: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Write results with this suffix, such as .ome.zarr; by default, with "
            "that of the volume.",
        ),
    ] = None,
    folders: Annotated[
        str,
        typer.Option(
            help="Say what the images in a folder are: images, each a volume of its "
            "own; slices of one volume; or auto, as in the training of the network.",
        ),
    ] = "auto",
    dask: Annotated[
        str | None,
        typer.Option(
            help="Compute on a Dask cluster: give its address, or local:N for N "
            "processes on this machine."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with what was begun in --out: volumes whose results are "
            "complete are skipped.",
        ),
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(help="Write the settings and the speed to this JSON file."),
    ] = None,
    trust: Trust = None,
) -> None:
    """Segment volumes with one or more trained networks.

    The labels of the volume NAME are written as NAME_labels, with the same shape and
    spacing. If the run is interrupted, start the same command again: it goes on where
    it stopped.
    """
    del trust  # its callback has acted
    from cellseg3d.bundle.model import load_model  # noqa: PLC0415
    from cellseg3d.core.atomic import make_folder  # noqa: PLC0415
    from cellseg3d.io.output.ownership import check_outputs  # noqa: PLC0415
    from cellseg3d.objects.options import ObjectOptions  # noqa: PLC0415
    from cellseg3d.prediction.batch import (  # noqa: PLC0415
        files_of,
        parse_bytes,
        tasks_of,
        write_report,
    )
    from cellseg3d.prediction.options import SegmentOptions  # noqa: PLC0415

    finds_objects = objects or objects_options is not None or min_volume_um3 is not None
    options = SegmentOptions(
        axes=axes,
        fuse=fuse,
        device=device,
        precision=precision,
        acceleration=acceleration,
        tta=tta,
        adapt=adapt,
        max_ram=None if max_ram is None else parse_bytes(max_ram, "--max-ram"),
        max_vram=None if max_vram is None else parse_bytes(max_vram, "--max-vram"),
        skip_empty=skip_empty,
        rescale=rescale,
        probs=probs is not None or finds_objects,
        uncertainty=uncertainty,
        calibrated=not finds_objects,
        overlay=overlay,
        probs_dtype=probs or "uint8",
        dask=dask,
    )
    decoder = ObjectOptions.read(objects_options) if objects_options else None
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other; give only one")
    models = [load_model(path) for path in bundle]
    single = all(model.single_slices for model in models)
    folders = _say_folders(volumes, folders, single=single)
    one_time = None if time in (None, ALL_TIMES) else _number(str(time))
    tasks = tasks_of(volumes, out, suffix, folders, one_time)
    files = [
        path
        for task in tasks
        for path in files_of(
            task,
            models[0].classes,
            options,
            objects=finds_objects,
        )
    ]
    files += [] if json is None else [json]
    check_outputs(files, [task.source for task in tasks])
    make_folder(out)
    reports: list[dict[str, object]] = []
    failed: list[CellSegError] = []

    def find(task: "Task") -> None:
        _find_objects(task, models[0], decoder, dask, min_volume_um3)

    opening = opening_of(spacing_um, channel, channels, one_time, read_as)
    first: Opening = {**opening, "time": 0} if time == ALL_TIMES else opening
    done = partial(
        _one,
        models=models,
        options=options,
        opening=opening,
        every_time=time == ALL_TIMES,
    )
    for task in tasks:
        try:
            more = find if finds_objects else None
            if not (resume and _left_alone(task, models, options, more, first)):
                reports.append(done(task, overwrite=overwrite, find=more))
        except InputError as error:
            # One bad volume does not stop the others.
            failed.append(error)
            print(f"error: {line_of(error)}", file=sys.stderr)
    if json is not None:
        write_report(json, reports)
    if failed:
        if len(tasks) > 1:
            print(f"{len(failed)} of {len(tasks)} volumes failed", file=sys.stderr)
        raise typer.Exit(failed[-1].exit_code)


def _number(time: str) -> int:
    if not time.isdecimal():
        raise ConfigError(f"--time is {time!r}; expected all, or a number from 0")
    return int(time)


def _say_folders(volumes: Sequence[str], folders: str, *, single: bool) -> str:
    """Say what the folders hold, and return what their images are."""
    from cellseg3d.prediction.batch import folder_of  # noqa: PLC0415

    chosen = "images" if folders == "auto" and single else folders
    for given in volumes:
        content = folder_of(given, chosen)
        if content is None:
            continue
        count = len(content.to_segment)
        left = len(content.labels) + len(content.results) if content.images else 0
        if content.one_volume and folders == "auto":
            print(
                f"{given}: {counted(count, 'image')}, taken as the slices of one "
                "volume; with --folders images each is a volume of its own"
            )
        elif single and folders == "auto" and count > 1:
            print(
                f"{given}: {counted(count, 'image')}, each taken as a volume of its "
                "own, as in the training; with --folders slices they are one volume"
            )
        if left and not content.one_volume:
            print(f"{given}: {counted(left, 'file')} of labels or results left out")
    return chosen


def _left_alone(
    task: "Task",
    models: "Sequence[TrainedModel]",
    options: "SegmentOptions",
    find: "Callable[[Task], None] | None",
    opening: "Opening",
) -> bool:
    """Return whether a task's labels are complete; then only make what is missing."""
    from cellseg3d.prediction.batch import (  # noqa: PLC0415
        files_of,
        is_complete,
        write_overlay,
    )
    from cellseg3d.prediction.opening import open_for  # noqa: PLC0415

    needed = replace(options, overlay=False)  # An overlay can be drawn from the rest.
    files = files_of(task, models[0].classes, needed, objects=False)
    if not is_complete(task, files, models, opening):
        return False
    print(f"{task.labels}: is complete and was skipped")
    if find is not None and not task.objects.exists():
        find(task)
    if options.overlay and not task.overlay.exists():
        volume = open_for(task.source, models, **opening)
        write_overlay(volume, task, ids=find is not None)
    return True


def _find_objects(
    task: "Task",
    model: "TrainedModel",
    decoder: "ObjectOptions | None",
    dask: str | None,
    least: float | None,
) -> None:
    from cellseg3d.cli.terminal.wording import worded  # noqa: PLC0415
    from cellseg3d.objects.sizes import least_size_note  # noqa: PLC0415
    from cellseg3d.prediction.batch import objects_task  # noqa: PLC0415

    found = objects_task(task, model, decoder, dask, least=least)
    count = counted(found.count, "object")
    print(f"{task.objects.name}: {count}, {found.options.method}")
    if note := least_size_note(found):
        print(worded(note))


def _one(
    task: "Task",
    models: "Sequence[TrainedModel]",
    options: "SegmentOptions",
    opening: "Opening",
    *,
    overwrite: bool,
    every_time: bool,
    find: "Callable[[Task], None] | None",
) -> dict[str, object]:
    """Segment one volume with a progress bar; return the report of it."""
    from cellseg3d.cli.terminal.voxel_bar import voxel_bar  # noqa: PLC0415
    from cellseg3d.datasets.intensity import limits_in_words  # noqa: PLC0415
    from cellseg3d.metrics.expected_dice import in_words  # noqa: PLC0415
    from cellseg3d.prediction.batch import segment_task  # noqa: PLC0415
    from cellseg3d.prediction.times import segment_times  # noqa: PLC0415

    with voxel_bar(task.labels.name) as progress:
        segment_one = segment_times if every_time else segment_task
        report = segment_one(
            task,
            models,
            options,
            opening,
            overwrite=overwrite,
            progress=progress,
            find_objects=find,
        )
    limits = report["sources"][0].get("scaled_from")
    scaled = f", intensities {limits_in_words(limits)}" if limits else ""
    times = f"{report['times']} time points, " if every_time else ""
    print(
        f"{task.labels}: {times}{report['voxels']:,} voxels in "
        f"{report['elapsed_s']:.1f} s, {report['voxels_per_s'] / 1e6:.2f} Mvoxel/s, "
        f"{report['picked']}{scaled}"
    )
    if said := in_words(report.get("expected_dice", {})):
        print(f"{task.labels.name}: {said}")
    return report
