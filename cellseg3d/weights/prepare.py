"""Prepare the data set of a bundle's weights from labelled or simulated volumes."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from cellseg3d.bundle.shipped import configs_dir
from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.processes import usable_cores
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist, Split
from cellseg3d.datasets.datalist import load_datalist, write_datalist
from cellseg3d.datasets.resampling import nearest_on, onto_spacing
from cellseg3d.io.registry import read_labels, read_volume, write_labels, write_volume
from cellseg3d.simulate.components import CLASSES, LABEL_MAP
from cellseg3d.simulate.conditions import NAMED, draw_condition, simulate_under
from cellseg3d.weights.recipe import Source, WeightsRecipe, read_recipe

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"
DATALIST = "datalist.json"
# First seeds of simulated cells. Training, validation and test share none, and the
# demo's unseen cells (from 1000 on) are in none of them.
TRAINING_SEED, TEST_SEED = 100_000, 500_000


@dataclass(frozen=True)
class Labelled:
    """One labelled volume of a source, before it is resampled and written.

    Parameters
    ----------
    name : str
        A name that is unique among all sources.
    dataset, specimen : str
        The data set and the specimen that it belongs to.
    image, label : str
        Paths of the files.
    spacing_um : Spacing or None
        Voxel edges; None if they are unknown.
    source : Source
    """

    name: str
    dataset: str
    specimen: str
    image: str
    label: str
    spacing_um: Spacing | None
    source: Source

    def unit(self, leave_out: str) -> str:
        """Return the name of the group that is left out together with this volume."""
        units = {
            "dataset": self.dataset,
            "specimen": self.specimen,
            "volume": self.name,
        }
        return units.get(leave_out, self.name)


def prepare(recipe: WeightsRecipe, data: Path | None, out: Path) -> Path:
    """Write the data set of a recipe, if it does not exist, and return its datalist.

    Volumes are written to `out`, resampled to the recipe's spacing, with their labels
    as the recipe maps them. If the recipe takes the data of another bundle
    (``data_of``), they and the datalist lie in that bundle's folder,
    ``../../OTHER/data``. Cases for testing only have the split "test".

    Parameters
    ----------
    recipe : WeightsRecipe
    data : Path or None
        The folder with ``manifest.json``. Simulated volumes do not need it.
    out : Path
        The folder to write into.

    Raises
    ------
    ConfigError
        If the recipe needs the folder `data` and it is None.
    """
    path = out / DATALIST
    out.mkdir(parents=True, exist_ok=True)
    if recipe.data_of:
        other = read_recipe(configs_dir(), recipe.data_of)
        shared = prepare(other, data, out.absolute().parents[1] / other.name / out.name)
        path = shared.with_name(f"{recipe.name}.json")
    if path.is_file():
        return path
    if recipe.data_of:
        cases = list(load_datalist(shared).cases)
    elif recipe.simulated:
        cases = _simulated(recipe, out)
    elif data is None:
        message = (
            f"{recipe.name}: its weights are made from labelled volumes; set "
            "CELLSEG3D_DATA to the folder that holds their manifest.json"
        )
        raise ConfigError(message)
    else:
        cases = list(_measured(recipe, data, out))
    label_map = recipe.label_map or (LABEL_MAP if recipe.simulated else None)
    datalist = Datalist(
        name=recipe.name,
        classes=recipe.classes or CLASSES,
        label_map=dict(label_map) if label_map else None,
        cases=tuple(cases),
        labels=recipe.labels,
        intensity_unit="1/um" if recipe.simulated else "arbitrary",
        path=path,
    )
    write_datalist(datalist, path)
    return path


def labelled_volumes(recipe: WeightsRecipe, data: Path) -> Iterator[Labelled]:
    """Yield the labelled volumes that a recipe names, source by source.

    Raises
    ------
    InputError
        If a source is not in the manifest.
    """
    rows = json.loads((data / MANIFEST).read_text(encoding="utf-8"))
    for source in recipe.sources:
        found = [row for row in rows if row["dataset"] == source.dataset]
        if not found:
            known = ", ".join(sorted({row["dataset"] for row in rows}))
            message = (
                f"{data / MANIFEST}: holds no data set {source.dataset!r}; expected "
                f"one of {known}"
            )
            raise InputError(message)
        for row in found:
            yield from _of_row(row, source, data)


def test_cases(recipe: WeightsRecipe, out: Path) -> Iterator[tuple[str, Case]]:
    """Yield the condition and case of simulated tomograms for testing.

    Each is simulated and written to ``out`` when it is asked for, on the grid of its
    condition.
    """
    for number, (condition, taken) in enumerate(NAMED.items()):
        for index in range(recipe.simulated["test"]):
            seed = TEST_SEED + 1000 * number + index
            name = f"{condition.replace(' ', '_')}_{index}"
            image, label = out / f"{name}.mrc", out / f"{name}_labels.mrc"
            if not label.is_file():
                out.mkdir(parents=True, exist_ok=True)
                simulated = simulate_under(taken, seed)
                write_volume(image, simulated.tomogram)
                write_labels(label, simulated.labels)
            yield condition, Case(name, str(image), str(label), name, "test")


def _simulated(recipe: WeightsRecipe, out: Path) -> list[Case]:
    """Simulate the cells for training and validation, one on each core at a time."""
    count = recipe.simulated["cells"] + recipe.simulated["validation"]
    workers = min(count, usable_cores())
    simulate = partial(_simulated_cell, recipe, out)
    # A forked process can hang on the threads of libraries, so processes are spawned.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return list(pool.map(simulate, range(count)))


def _simulated_cell(recipe: WeightsRecipe, out: Path, number: int) -> Case:
    seed = TRAINING_SEED + number
    condition = draw_condition(np.random.default_rng([seed, 1]))
    simulated = simulate_under(condition, seed, workers=1)
    name = f"cell_{number:03d}"
    image, label = _on_grid(simulated.tomogram, simulated.labels, recipe.spacing_um)
    trains = number < recipe.simulated["cells"]
    split: Split = "training" if trains else "validation"
    return _write(out, name, image, label, group=name, split=split)


def _measured(recipe: WeightsRecipe, data: Path, out: Path) -> Iterator[Case]:
    for found in labelled_volumes(recipe, data):
        image, label = read_volume(found.image), read_labels(found.label)
        part = _part(image.shape, found.source)
        values = label.read(part)
        if found.source.label_map is not None:
            values = _mapped(values, found.source.label_map)
        image = replace(image, array=image.read(part), spacing=found.spacing_um)
        label = replace(label, array=values, spacing=found.spacing_um)
        image, label = _on_grid(image, label, recipe.spacing_um)
        tests = found.source.tests(found.name)
        unit = found.unit(recipe.leave_out)
        yield _write(
            out, found.name, image, label, group=unit, split="test" if tests else None
        )


def _of_row(row: Mapping[str, Any], source: Source, data: Path) -> Iterator[Labelled]:
    """Yield the volumes of one row of the manifest: one, or a folder of images."""
    edges = row.get("spacing_nm")
    spacing = None
    if edges and source.spacing_known:
        lengths = [edge / 1000 for edge in edges]
        spacing = Spacing.of(lengths if len(lengths) == 3 else [lengths[0], *lengths])
    image, label = str(row["image"]), str(row["label"])
    dataset = source.name
    if "*" not in image:
        specimen = str(row.get("group") or row["volume"])
        name = f"{dataset}_{row['volume']}"
        yield Labelled(
            name,
            dataset,
            f"{dataset}_{specimen}",
            str(data / image),
            str(data / label),
            spacing,
            source,
        )
        return
    folder = data / Path(label).parent
    for path in sorted(data.glob(image)):
        name = path.stem
        yield Labelled(
            name, dataset, name, str(path), str(folder / path.name), spacing, source
        )


def _part(shape: Zyx, source: Source) -> Roi:
    start, stop = [0, 0, 0], list(shape)
    if source.part is not None:
        axis, low, high = source.part
        length = shape[axis_index(axis)]
        start[axis_index(axis)] = round(low * length)
        stop[axis_index(axis)] = round(high * length)
    return Roi(zyx(start), zyx(stop))


def _mapped(values: Any, label_map: Mapping[int, int]) -> Any:  # noqa: ANN401
    mapped = np.zeros(values.shape, np.uint8)
    for source, target in label_map.items():
        mapped[values == int(source)] = target
    return mapped


def _on_grid(
    image: Volume, label: Volume, spacing_um: Sequence[float] | None
) -> tuple[Volume, Volume]:
    """Return image and labels resampled to a spacing, as prediction does it.

    Without a spacing they are returned as they are.
    """
    if spacing_um is None or image.spacing is None:
        return image, label
    seen = onto_spacing(image, Spacing.of(spacing_um))
    return (
        replace(seen, array=seen.read()),
        replace(
            label,
            array=nearest_on(label.array, seen.shape)[Roi.whole(seen.shape).slices],
            spacing=seen.spacing,
        ),
    )


def _write(
    out: Path,
    name: str,
    image: Volume,
    label: Volume,
    *,
    group: str,
    split: Split | None,
) -> Case:
    suffix = ".mrc" if image.intensity_unit == "1/um" else ".tif"
    one, two = out / f"{name}{suffix}", out / f"{name}_labels{suffix}"
    plain = {"path": str(one), "format": suffix}
    write_volume(one, replace(image, provenance=plain, affine_mm=None))
    write_labels(two, replace(label, provenance=plain, affine_mm=None))
    return Case(name, str(one), str(two), group, split, image.spacing)
