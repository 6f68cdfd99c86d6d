"""``cellseg3d preview``: draw the samples that a network would be trained on."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg3d.cli.terminal.reading_options import Channel, Channels, several
from cellseg3d.cli.terminal.trust_option import Trust

if TYPE_CHECKING:
    from cellseg3d.datasets.cases import Datalist
    from cellseg3d.samples.loaders import SampleDataset

_SIDE = 256


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG_OR_DATALIST",
            help="A training: a bundle's name or folder, a run folder or a train.json. "
            "Or a data set: a datalist or a folder of volumes.",
        ),
    ],
    *,
    png: Annotated[Path, typer.Option(help="Write the picture to this PNG file.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Draw from this datalist or folder, not from that of the training."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Draw this many samples.")] = 8,
    epoch: Annotated[
        int, typer.Option(min=0, help="Draw the samples of this epoch, from 0.")
    ] = 0,
    channel: Channel = None,
    channels: Channels = None,
    trust: Trust = None,
) -> None:
    """Draw training samples before and after augmentation.

    The picture shows the labels as outlines.
    """
    del trust  # its callback has acted
    from cellseg3d.core.errors import ConfigError
    from cellseg3d.datasets.told import told_datalist
    from cellseg3d.io.output.ownership import check_outputs
    from cellseg3d.samples.pictures import write_preview

    given = [each for each in (source, data) if each and Path(each).is_file()]
    check_outputs([png], given)
    config = _config(Path(source))
    if config is None:
        told = told_datalist(source, channel=channel, channels=several(channels))
        dataset, classes = _of_datalist(told)
    elif channel is not None or channels is not None:
        raise ConfigError(
            f"{source}: is a training, whose network fixes the channels; leave out "
            "--channel and --channels, or give a datalist"
        )
    else:
        dataset, classes = _of_config(config, data)
    dataset.set_epoch(epoch)
    write_preview(dataset, png, count=samples, classes=classes)
    print(f"{png}: {min(samples, len(dataset))} samples, before and after augmentation")


def _config(source: Path) -> Path | None:
    """Return the training config that a word names, or None if it names a data set."""
    from cellseg3d.bundle.compose import read_config
    from cellseg3d.bundle.shipped import find_bundle

    if source.is_file():
        is_config = source.suffix in (".json", ".yaml", ".yml")
        known = read_config(source) if is_config else {}
        return source if any(key.split("::")[0] == "train" for key in known) else None
    bundle = (source / "configs").is_dir() or not source.exists()
    return find_bundle(source) / "configs" / "train.json" if bundle else None


def _of_config(config: Path, data: str | None) -> "tuple[SampleDataset, list[str]]":
    """Return the training samples that a bundle's config describes."""
    from monai.bundle.config_parser import ConfigParser

    from cellseg3d.bundle.resolve import resolve_in_place
    from cellseg3d.core.errors import ConfigError
    from cellseg3d.datasets.datalist import class_names
    from cellseg3d.samples.loaders import SampleDataset

    settings = {} if data is None else {"dataset_dir": data}
    parser = ConfigParser(resolve_in_place(config, settings))
    place = str(parser.get_parsed_content("dataset_dir"))
    from cellseg3d.samples.inputs import ready_dataset

    ready_dataset(place)
    dataset = parser.get_parsed_content("train::dataset")
    if not isinstance(dataset, SampleDataset):
        message = (
            f"{config}: train::dataset is a {type(dataset).__name__}; a preview needs "
            "a cellseg3d.samples.loaders.SampleDataset"
        )
        raise ConfigError(message)
    return dataset, class_names(place, ())


def _of_datalist(place: "str | Path | Datalist") -> "tuple[SampleDataset, list[str]]":
    """Return slices of all labelled cases, with the default augmentation."""
    from monai.transforms.compose import Compose

    from cellseg3d.datasets.volumes import load_fold
    from cellseg3d.samples.augment import RandBlurd, RandIntensityd
    from cellseg3d.samples.loaders import SampleDataset
    from cellseg3d.samples.transforms import RandSpatiald, RandSymmetryd

    loaded = load_fold(place, validation="none")
    images = [case.image for case in loaded.training]
    sides = [min(image.shape[axis] for image in images) for axis in (-2, -1)]
    transform = Compose(
        [RandSymmetryd(), RandSpatiald(elastic=3.0), RandIntensityd(), RandBlurd()]
    )
    spec = {
        "spatial_dims": 2,
        "patch_shape": [min(_SIDE, side) for side in sides],
        "image_channels": loaded.training[0].channels,
    }
    dataset = SampleDataset(loaded.training, spec, 1000, transform)
    return dataset, list(loaded.datalist.classes)
