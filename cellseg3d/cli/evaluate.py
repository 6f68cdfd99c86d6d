"""``cellseg3d evaluate``: score predicted labels against true labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg3d.cli.terminal.reading_options import (
    Classes,
    SpacingUm,
    TruthMap,
    class_names,
    value_map,
)
from cellseg3d.cli.terminal.wording import worded

if TYPE_CHECKING:
    from cellseg3d.scoring.evaluate import Evaluation


def command(
    prediction: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTION",
            help="The predicted labels: a file, or a folder of files.",
        ),
    ],
    truth: Annotated[
        Path | None,
        typer.Argument(
            metavar="TRUTH", help="The true labels: a file, a folder or a datalist."
        ),
    ] = None,
    *,
    datalist: Annotated[
        Path | None,
        typer.Option(help="Take truth, class names and label map from this datalist."),
    ] = None,
    classes: Classes = "",
    truth_map: TruthMap = None,
    prediction_map: Annotated[
        list[str] | None,
        typer.Option(
            "--map-prediction",
            metavar="OLD:NEW",
            help="Read the value OLD of the prediction as NEW.",
        ),
    ] = None,
    objects: Annotated[
        bool,
        typer.Option(
            "--objects",
            help="Say that the values are ids of objects, and score the objects. "
            "Files of `cellseg3d objects` and `predict --objects` say it themselves.",
        ),
    ] = False,
    components: Annotated[
        bool,
        typer.Option(
            "--components", help="Score the connected pieces of each class as objects."
        ),
    ] = False,
    probs: Annotated[
        Path | None,
        typer.Option(
            "--probabilities",
            help="Also score these probabilities (ROC, threshold, calibration): a "
            "file, or the folder of `cellseg3d predict --probs`.",
        ),
    ] = None,
    surface: Annotated[
        bool,
        typer.Option("--surface", help="Also measure distances of surfaces in um."),
    ] = False,
    tolerance_um: Annotated[
        float | None,
        typer.Option(
            help="Let surfaces agree within this distance in um, for the normalised "
            "surface Dice (NSD); by default, the longest voxel edge."
        ),
    ] = None,
    spacing_um: SpacingUm = None,
    folders: Annotated[
        str,
        typer.Option(
            help="Take the images in a folder for this: images (a volume each) or "
            "slices (of one volume). By default, those whose names differ by a number "
            "are slices."
        ),
    ] = "auto",
    csv: Annotated[
        Path | None,
        typer.Option(help="Write one row for each volume and class to this CSV file."),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(help="Write all scores, means and intervals to this JSON file."),
    ] = None,
) -> None:
    """Score predicted labels against true labels.

    Give two files, or two folders whose files have the same names (an ending such as
    _labels does not matter). Voxels whose true label is 255 are not annotated and are
    left out of every score. Means over volumes come with their 95 % bootstrap interval.
    """
    from cellseg3d.core.spacing import Spacing  # noqa: PLC0415
    from cellseg3d.io.output.ownership import check_outputs  # noqa: PLC0415
    from cellseg3d.io.registry import volume_suffix  # noqa: PLC0415
    from cellseg3d.scoring.evaluate import ScoreOptions, evaluate_files  # noqa: PLC0415
    from cellseg3d.scoring.report import write_csv, write_json  # noqa: PLC0415

    given = [each for each in (prediction, truth, datalist, probs) if each]
    files = [each for each in given if not each.is_dir() or volume_suffix(each.name)]
    check_outputs([each for each in (csv, json) if each], files)
    options = ScoreOptions(
        classes=class_names(classes),
        truth_map=value_map(truth_map, "--map"),
        prediction_map=value_map(prediction_map, "--map-prediction"),
        ids=objects,
        components=components,
        surface=surface,
        probs=None if probs is None else str(probs),
        tolerance_um=tolerance_um,
        folders=folders,
        spacing=None if spacing_um is None else Spacing.of(spacing_um),
    )
    evaluation = evaluate_files(
        str(prediction),
        None if truth is None else str(truth),
        datalist=None if datalist is None else str(datalist),
        options=options,
    )
    if csv is not None:
        write_csv(evaluation, csv)
    if json is not None:
        write_json(evaluation, json)
    _show(evaluation)


def _show(evaluation: "Evaluation") -> None:
    from cellseg3d.cli.terminal.console import table_console  # noqa: PLC0415
    from cellseg3d.cli.terminal.evaluate_tables import caption, score_tables  # noqa: PLC0415

    console = table_console()
    for table in score_tables(evaluation):
        console.print(table)
    console.print(caption(evaluation), markup=False, highlight=False)
    notes = dict.fromkeys(note for each in evaluation.scored for note in each.notes)
    for note in notes:
        console.print(worded(note), markup=False, highlight=False, soft_wrap=True)
    for role in ("predictions", "truths"):
        for path in getattr(evaluation, f"unmatched_{role}"):
            other = {"predictions": "truth", "truths": "prediction"}[role]
            said = f"{path}: was not scored, since it has no {other}"
            console.print(said, markup=False, soft_wrap=True)
