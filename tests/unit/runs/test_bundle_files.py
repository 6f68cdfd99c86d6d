"""The files of a run tell of its own data and weights, not of the bundle's."""

import numpy as np
import pytest
from small_bundle import small_bundle

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.metadata import NOT_STATED, read_modality
from cellseg3d.bundle.shipped import find_bundle, shipped_bundles, weights_file
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.runs.folder import create_run
from cellseg3d.runs.options import TrainOptions
from cellseg3d.training.combine_bundles import CombineOptions, combine_bundles

TRAINED = [name for name, at in shipped_bundles().items() if weights_file(at).is_file()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two volumes of noise, with a block of one class."""
    folder = tmp_path_factory.mktemp("data")
    spacing = Spacing(0.1, 0.1, 0.1)
    random = np.random.default_rng(0)
    for number in range(2):
        labels = np.zeros((24, 24, 24), np.uint8)
        labels[8:16, 8:16, 8:16] = 1
        noise = random.normal(size=labels.shape).astype(np.float32)
        write_volume(folder / f"cell{number}.mrc", Volume(noise, spacing))
        path = folder / f"cell{number}_labels.tif"
        write_labels(path, Volume(labels, spacing))
    return folder


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_does_not_repeat_what_its_bundle_says_of_other_weights(
    name, data, tmp_path
):
    create_run(find_bundle(name), data, tmp_path, TrainOptions())

    metadata = read_config(tmp_path / "configs" / "metadata.json")
    assert "score" not in metadata
    assert "weights_sha256" not in metadata
    assert metadata["eval_metrics"] == {}
    assert metadata["data_source"] == NOT_STATED
    assert list(metadata["changelog"]) == [metadata["version"]] == ["0.1.0"]
    assert read_modality(tmp_path) == NOT_STATED
    card = (tmp_path / "docs" / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    assert "Classes: background, " in card
    assert "| score |" not in card


def test_a_combined_bundle_names_the_images_of_its_members(tmp_path):
    members = []
    for name, modality in [("a", "electron microscopy"), ("b", None)]:
        folder = small_bundle(tmp_path / name)
        if modality:
            image = {"inputs": {"image": {"modality": modality}}}
            metadata = {"name": name, "network_data_format": image}
            write_config(folder / "configs" / "metadata.json", metadata)
        members.append(folder)

    combine_bundles(members, tmp_path / "out", CombineOptions(fit=False))

    assert read_modality(tmp_path / "out") == "electron microscopy, not stated"
