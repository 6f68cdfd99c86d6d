"""List, scale and resample the volumes that a bundle's inference config reads."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform
from monai.utils.enums import MetaKeys
from torch import Tensor

from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import INNER, Datalist, split_inner
from cellseg3d.datasets.datalist import load_datalist, resolve_datalist
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.datasets.listed import Files, listed_files
from cellseg3d.datasets.resampling import nearest_on, onto_spacing
from cellseg3d.datasets.simulated import LOCK, ensure_dataset
from cellseg3d.datasets.targets import LabelTarget
from cellseg3d.io.listing import content_of
from cellseg3d.io.output.ownership import one_name
from cellseg3d.samples.monai_io import volume_of

logger = logging.getLogger(__name__)


def ready_dataset(
    dataset_dir: str | Path,
    training: Files | None = None,
    validation: Files | None = None,
    classes: Sequence[str] = (),
    target: LabelTarget | Mapping[str, Any] | None = None,
) -> str | Datalist:
    """Return a data set, or refuse one that is missing or empty.

    If it is the folder ``data`` of a bundle and empty or missing, cells are simulated
    into it with a warning, so that a bundle can be tried. Several processes may call
    this at once.

    Parameters
    ----------
    dataset_dir : str or Path
        A datalist, a volume, or a folder.
    training, validation : sequence of mapping, optional
        Files of images and labels in place of the folder, as MONAI Label gives them.
    classes : sequence of str
        The classes of such labels, background first.
    target : LabelTarget or mapping, optional
        What the network learns; such labels hold object ids where it needs them.

    Returns
    -------
    str or Datalist
        `dataset_dir`, or a datalist of the files.

    Raises
    ------
    InputError
        If the path is missing or an empty folder, other than a bundle's ``data``.
    """
    if training or validation:
        return listed_files(training, validation, classes, target)
    place = Path(dataset_dir)
    if place.is_file() or INNER in str(place):
        return str(place)
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    # While another process simulates, its lock is there with some of the volumes.
    if LOCK not in names and not all(name.startswith(".") for name in names):
        return str(place)
    if not _is_bundles_own(place):
        found = "is an empty folder" if place.is_dir() else "does not exist"
        message = f"{place}: {found}; name the folder or datalist of your volumes"
        raise InputError(message)
    logger.warning("%s: is empty or missing, so cells are simulated into it", place)
    ensure_dataset(place)
    return str(place)


def _is_bundles_own(place: Path) -> bool:
    """Return whether a folder is the ``data`` folder of a bundle."""
    bundle = place.absolute().parent
    return place.name == "data" and (bundle / "configs" / "metadata.json").is_file()


def list_inputs(dataset_dir: str | Path) -> list[dict[str, str]]:
    """Return the volumes to predict, as a list of items for a MONAI dataset.

    Parameters
    ----------
    dataset_dir : str or Path
        A datalist or a folder with one, for all its images; a folder of the slices of
        one volume; another folder, for all volumes in it; or the file of one volume.

    Raises
    ------
    InputError
        If the path does not exist or the folder holds no volumes.
    ConfigError
        If two results would get the same name: MONAI ends a name at its first dot.
    """
    items = _list_inputs(Path(dataset_dir))
    seen: dict[str, str] = {}
    for item in items:
        file = split_inner(item["image"])[0]
        name = one_name(file.name.partition(".")[0])
        if name in seen:
            message = (
                f"{item['image']} and {seen[name]} would get the same name for their "
                "results; predict with `cellseg3d predict` into two folders, or rename "
                "one"
            )
            raise ConfigError(message)
        seen[name] = item["image"]
    return items


def _list_inputs(place: Path) -> list[dict[str, str]]:
    if place.is_dir() and not resolve_datalist(place).is_file():
        content = content_of(place)
        found = (place,) if content.one_volume else content.to_segment
        return [{"image": str(path)} for path in found]
    if place.suffix in (".json", ".yaml", ".yml") or place.is_dir():
        return [{"image": case.image} for case in load_datalist(place).cases]
    if not split_inner(str(place))[0].exists():
        message = f"{place}: does not exist; give MONAI a folder as dataset_dir"
        raise InputError(message)
    return [{"image": str(place)}]


class ScaleVolumed(MapTransform):
    """Scale whole volumes in the same way as training and `cellseg3d predict`.

    Parameters
    ----------
    keys : sequence of str
        Keys of tensors of raw intensities, shape (C, Z, Y, X).
    intensity : IntensityScale or dict
        How to scale.
    """

    def __init__(
        self, keys: Sequence[str], intensity: IntensityScale | dict[str, Any]
    ) -> None:
        super().__init__(keys)
        self.intensity = IntensityScale.parse(intensity)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with volumes scaled to about -1 to 1, and their metadata."""
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            plain = np.asarray(torch.as_tensor(image).as_subclass(Tensor))
            offset, factor = self.intensity.measure(Volume(plain))
            scaled = torch.from_numpy(self.intensity.apply(plain, offset, factor))
            # A MONAI tensor keeps its metadata through arithmetic, not through numpy.
            item[key] = image.float() * 0 + scaled
        return item


class ToSpacingd(MapTransform):
    """Resample whole volumes to the spacing that the network was trained on.

    Parameters
    ----------
    keys : sequence of str
        Keys of tensors of raw intensities, shape (C, Z, Y, X), with the metadata of
        `cellseg3d.samples.monai_io.VolumeReader`.
    spacing_um : sequence of float, optional
        Voxel edges (z, y, x), in um; with None nothing is resampled.

    Raises
    ------
    SpacingError
        If the spacing of a volume is unknown.
    """

    def __init__(
        self, keys: Sequence[str], spacing_um: Sequence[float] | None = None
    ) -> None:
        super().__init__(keys)
        self.target = None if spacing_um is None else Spacing.of(spacing_um)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with resampled volumes; metadata still describe the file."""
        item = dict(data)
        if self.target is None:
            return item
        for key in self.key_iterator(item):
            image = item[key]
            plain = np.asarray(torch.as_tensor(image).as_subclass(Tensor))
            seen = onto_spacing(volume_of(plain, image.meta), self.target)
            if seen.shape != plain.shape[1:]:
                item[key] = MetaTensor(torch.from_numpy(seen.read()))
                item[key].meta = image.meta
        return item


class OnGridOfd(MapTransform):
    """Resample a prediction to the grid of the image's file and attach its metadata.

    If the image was resampled, each voxel of the file gets the nearest voxel's value.

    Parameters
    ----------
    keys : sequence of str
        Keys of the predictions, shape (K, Z, Y, X).
    source : str
        Key of the image, with the metadata of
        `cellseg3d.samples.monai_io.VolumeReader`.
    """

    def __init__(self, keys: Sequence[str], source: str = "image") -> None:
        super().__init__(keys)
        self.source = source

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with each prediction on the file's grid, with metadata."""
        item = dict(data)
        for key in self.key_iterator(item):
            meta = item[self.source].meta
            shape = [int(side) for side in meta[MetaKeys.SPATIAL_SHAPE]]
            answer = torch.as_tensor(item[key]).as_subclass(Tensor)
            if list(answer.shape[1:]) != shape:
                every = Roi.whole(shape).slices
                parts = [
                    nearest_on(part, shape)[every] for part in answer.cpu().numpy()
                ]
                answer = torch.from_numpy(np.stack(parts))
            item[key] = MetaTensor(answer, meta=meta)
        return item
