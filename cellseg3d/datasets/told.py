"""Add a spacing and annotated slices that the user gives to a data set."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cellseg3d.core.errors import CellSegError, ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import LABELLED, Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import Channels

logger = logging.getLogger(__name__)


def told_datalist(
    data: str | Path | Datalist,
    spacing_um: Sequence[float] | None = None,
    annotated_slices: str | None = None,
    *,
    channel: int | str | None = None,
    channels: Channels | None = None,
) -> str | Path | Datalist:
    """Return a data set with spacing, channels and annotated slices of the user.

    They are used instead of those in the datalist and the files. A warning in the log
    says how many of these state another spacing.

    Parameters
    ----------
    data : str, Path or Datalist
        A datalist or a folder; it is returned unchanged if nothing is given.
    spacing_um : three floats (z, y, x), optional
        Voxel edges of all images, in um.
    annotated_slices : str, optional
        Numbers of the slices across z that all labels annotate, counted from 0, such
        as ``"3,10,24"``; or ``"labelled"`` for all slices with a label above 0.
    channel : int or str, optional
        The one channel to read of every image, by number or name.
    channels : int, "all" or sequence of int or str, optional
        The channels to read of every image, as for `cellseg3d.open_volume`.

    Raises
    ------
    ConfigError
        If `annotated_slices` is neither numbers nor ``"labelled"``, or both `channel`
        and `channels` are given.
    """
    if channel is not None and channels is not None:
        raise ConfigError(
            f"`channel` is {channel!r} and `channels` is {channels!r}; give only one"
        )
    told = (spacing_um, annotated_slices, channel, channels)
    if all(each is None for each in told):
        return data
    datalist = data if isinstance(data, Datalist) else load_datalist(data)
    cases = datalist.cases
    if channel is not None or channels is not None:
        cases = tuple(
            replace(case, channel=channel, channels=channels) for case in cases
        )
    if spacing_um is not None:
        chosen = Spacing.of(list(spacing_um))
        _say_conflicts(cases, chosen)
        cases = tuple(replace(case, spacing=chosen) for case in cases)
    if annotated_slices is not None:
        slices = parse_slices(annotated_slices)
        cases = tuple(replace(case, annotated_slices=slices) for case in cases)
    return replace(datalist, cases=cases)


def parse_slices(text: str) -> str | tuple[int, ...]:
    """Return slice numbers from a text such as ``3,10,24``, or ``labelled`` unchanged.

    Raises
    ------
    ConfigError
        If the text is neither.
    """
    if text.strip() == LABELLED:
        return LABELLED
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() for word in words):
        message = (
            f"annotated slices are {text!r}; expected numbers counted from 0, such as "
            f"3,10,24, or {LABELLED} for all slices with a label above 0"
        )
        raise ConfigError(message)
    return tuple(sorted({int(word) for word in words}))


def _say_conflicts(cases: Sequence[Case], chosen: Spacing) -> None:
    """Log how many images state another spacing than the user's."""
    others = [found for case in cases if (found := _stated(case)) is not None]
    others = [found for found in others if not found.is_close(chosen)]
    if others:
        logger.warning(
            "the spacing that you gave, %s, is used; %d of %d images or their datalist "
            "state another spacing, such as %s",
            chosen,
            len(others),
            len(cases),
            others[0],
        )


def _stated(case: Case) -> Spacing | None:
    """Return the spacing in the datalist or the image; None if neither states one."""
    if case.spacing is not None:
        return case.spacing
    try:
        return case.open_image().spacing
    except CellSegError:
        return None  # The doctor reports this error.
