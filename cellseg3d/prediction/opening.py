"""Open a volume with the channels that some networks were trained on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from cellseg3d.bundle.model import TrainedModel, networks_of
from cellseg3d.core.errors import AxisError
from cellseg3d.core.volume import Volume
from cellseg3d.io.check import open_input
from cellseg3d.io.registry import ALL, Opening


def open_for(
    path: str | Path, models: Sequence[TrainedModel], **opening: Unpack[Opening]
) -> Volume:
    """Open a volume as the input of networks, and log what is unusual about it.

    If the user names no channels, all are opened for networks of several;
    `cellseg3d.datasets.channels.fit_channels` then finds those of the training.

    Parameters
    ----------
    path : str or Path
    models : sequence of TrainedModel
    **opening
        As for `cellseg3d.open_volume`.

    Raises
    ------
    InputError
        If the file cannot be used.
    """
    asked = opening.get("channel") is not None
    channels = opening.get("channels")
    if channels is not None:
        volume = open_input(path, **opening)
        # Numbers are the user's own order, whatever the file calls its channels.
        several = channels if isinstance(channels, Sequence) else []
        by_number = any(str(each).isdecimal() for each in several)
        return replace(volume, channel_names=()) if by_number else volume
    count = max(
        network.spec.image_channels for m in models for network in networks_of(m)
    )
    if asked or count == 1:
        try:
            return open_input(path, **opening)
        except AxisError:
            if asked or not any(model.channels for model in models):
                raise
    opening["channels"] = ALL
    return open_input(path, **opening)
