"""Decide which channels of an image a network sees, and whether images agree."""

import logging
from collections.abc import Sequence

from cellseg3d.core.channels import ChosenChannels
from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.core.volume import Volume
from cellseg3d.core.words import counted
from cellseg3d.io.registry import CHANNEL_NUMBERS

logger = logging.getLogger(__name__)


def fit_channels(
    volume: Volume, names: Sequence[str], count: int, network: str
) -> Volume:
    """Return the channels of a volume that a network sees, in its training's order.

    Channels are found by their names, if the volume has all names of the training, and
    otherwise taken as they come, if there are as many.

    Parameters
    ----------
    volume : Volume
        All channels of a file, or those that the user has chosen.
    names : sequence of str
        The names of the channels in the training; empty if they are unknown.
    count : int
        The number of channels that the network takes.
    network : str
        The network's name, for messages.

    Returns
    -------
    Volume
        Of three axes if `count` is 1.

    Raises
    ------
    AxisError
        If the volume does not have the channels of the training.

    Examples
    --------
    >>> import numpy as np
    >>> from cellseg3d import Volume
    >>> pair = np.arange(2).reshape(2, 1, 1, 1)
    >>> volume = Volume(pair, channel_names=("actin", "DAPI"))
    >>> fit_channels(volume, ["DAPI", "actin"], 2, "a network").read().ravel().tolist()
    [1, 0]
    """
    if volume.channels == count == 1:
        return volume.channel(0)
    here = [name.casefold() for name in volume.channel_names]
    wanted = [name.casefold() for name in names]
    if wanted and len(wanted) == count and all(here.count(n) == 1 for n in wanted):
        numbers = tuple(here.index(name) for name in wanted)
        return _chosen(volume, numbers)
    if volume.channels != count:
        raise AxisError(_unfit(volume, names, count, network))
    if here and wanted and list(names) != unnamed(count):
        logger.warning(
            "%s: its channels are called %s, so they are taken in this order for %s, "
            "with which %s was trained; give `channels` if they belong to others",
            volume.name,
            ", ".join(volume.channel_names),
            ", ".join(names),
            network,
        )
    return volume


def common_channels(images: Sequence[Volume], where: str) -> tuple[str, ...]:
    """Return the names of the channels that all images have, in their order.

    Parameters
    ----------
    images : sequence of Volume
        The images of a data set, with the channels that its datalist names.
    where : str
        The data set, for messages.

    Returns
    -------
    tuple of str
        The names in the first image that has names; otherwise "channel 0" and so on,
        or nothing for one channel without a name.

    Raises
    ------
    ConfigError
        If images differ in the number of their channels, or have the same channels in
        another order.
    """
    if not images:
        return ()
    first = images[0]
    for image in images[1:]:
        if image.channels != first.channels:
            raise ConfigError(
                f"{where}: {image.name} has {counted(image.channels, 'channel')}, but "
                f"{first.name} has {counted(first.channels, 'channel')}; choose those "
                "that all images have with `channels`, or one with `channel`"
            )
    named = [image for image in images if image.channel_names]
    if not named:
        return () if first.channels == 1 else tuple(unnamed(first.channels))
    usual = named[0].channel_names
    for image in named[1:]:
        names = image.channel_names
        if names != usual and sorted(names) == sorted(usual):
            raise ConfigError(
                f"{where}: {image.name} has the channels {', '.join(names)}, but "
                f"{named[0].name} has {', '.join(usual)}; name them in one order with "
                f"`channels`"
            )
    return usual


def unnamed(count: int) -> list[str]:
    """Return the names of channels whose names are unknown."""
    return [f"channel {number}" for number in range(count)]


def _chosen(volume: Volume, numbers: tuple[int, ...]) -> Volume:
    if len(numbers) == 1:
        return volume.channel(numbers[0])
    if numbers == tuple(range(volume.channels)):
        return volume
    return Volume(
        ChosenChannels(volume.array, numbers),
        volume.spacing,
        volume.intensity_unit,
        volume.provenance,
        volume.affine_mm,
        tuple(volume.channel_names[number] for number in numbers),
    )


def _unfit(volume: Volume, names: Sequence[str], count: int, network: str) -> str:
    called = f" ({', '.join(volume.channel_names)})" if volume.channel_names else ""
    trained = f" ({', '.join(names)})" if names else ""
    option = "`channel`" if count == 1 else "`channels`"
    chosen = CHANNEL_NUMBERS in volume.provenance
    if volume.channels > count:
        way_out = f"choose those of the training with {option}"
    elif chosen:
        way_out = "choose all of these with `channels`"
    else:
        way_out = "give an image with all of them, or a network of fewer channels"
    verb = "is read as" if chosen else "has"
    return (
        f"{volume.name}: {verb} {counted(volume.channels, 'channel')}{called}, but "
        f"{network} was trained on {counted(count, 'channel')}{trained}; {way_out}"
    )
