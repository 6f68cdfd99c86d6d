"""Derive a model's classes, spacing and unit from the data set that it trains on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellseg3d.bundle.model_facts import ModelFacts, stored_facts
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Datalist
from cellseg3d.datasets.channels import common_channels
from cellseg3d.datasets.datalist import load_datalist, resolve_datalist
from cellseg3d.datasets.listed import Files, listed_files
from cellseg3d.datasets.targets import LabelTarget
from cellseg3d.io.registry import open_volume


def facts_of_data(
    dataset_dir: str | Path,
    default: ModelFacts | Mapping[str, Any],
    bundle_root: str | Path | None = None,
    target: LabelTarget | Mapping[str, Any] | None = None,
    spacing_um: Sequence[float] | None = None,
    training: Files | None = None,
    validation: Files | None = None,
) -> ModelFacts:
    """Return classes, spacing and unit of a data set; defaults if there is none yet.

    Parameters
    ----------
    dataset_dir : str or Path
        A datalist, or a folder that holds one.
    default : ModelFacts or mapping
        What to return if the folder is missing or empty: the facts of the simulated
        cells, which `initialize` writes there.
    bundle_root : str or Path, optional
        A bundle. If the folder is missing or empty and the bundle has weights, their
        facts are returned instead of `default`.
    target : LabelTarget or mapping, optional
        What the network learns from the labels; their classes when None.
    spacing_um : three floats (z, y, x), optional
        Voxel edges that training resamples all volumes to, in um; each volume keeps
        its own spacing when None.
    training, validation : sequence of mapping, optional
        Files of images and labels in place of the data set, whose classes are those of
        the bundle (`cellseg3d.datasets.listed.listed_files`).
    """
    place = Path(dataset_dir)
    if training or validation:
        classes = _known(bundle_root, default).classes
        listed = listed_files(training, validation, classes, target)
        return facts_of_datalist(listed.aimed_at(target), spacing_um)
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return _known(bundle_root, default)
    datalist = load_datalist(resolve_datalist(place)).aimed_at(target)
    return facts_of_datalist(datalist, spacing_um)


def _known(
    bundle_root: str | Path | None, default: ModelFacts | Mapping[str, Any]
) -> ModelFacts:
    """Return the facts of a bundle's weights, or its defaults."""
    if bundle_root is not None:
        return stored_facts(bundle_root, default)
    return ModelFacts.parse(default)


def facts_of_datalist(
    datalist: Datalist, spacing_um: Sequence[float] | None = None
) -> ModelFacts:
    """Return classes, channels, spacing and unit from a datalist's labelled cases.

    Parameters
    ----------
    datalist : Datalist
        The data set.
    spacing_um : three floats (z, y, x), optional
        Voxel edges that training resamples all volumes to, in um. When None, the
        spacing is that of the first case whose spacing is known.
    """
    spacing: Spacing | None = None
    told = False
    depths = set()
    images: list[Volume] = []
    for case in datalist.cases:
        if case.label is None:
            continue
        volume = open_volume(case.image, **case.opening)
        images.append(volume)
        depths.add(volume.shape[0])
        if spacing is None:
            spacing = case.spacing or volume.spacing
            told = spacing is not None and volume.spacing is None
    facts = ModelFacts(
        datalist.classes,
        None,
        datalist.intensity_unit,
        single_slices=depths == {1},
        resampled=spacing_um is not None,
        spacing_told=told and spacing_um is None,
        labels=datalist.labels,
        label_map=datalist.label_map,
        channels=common_channels(images, datalist.where),
    )
    spacing = spacing if spacing_um is None else Spacing.of(spacing_um)
    return facts if spacing is None else replace(facts, spacing_um=spacing.zyx)
