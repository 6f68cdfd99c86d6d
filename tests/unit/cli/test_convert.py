"""convert changes the format and nothing else."""

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io import registry
from cellseg3d.io.registry import open_volume, read_labels, read_volume, write_volume


@pytest.fixture
def cell(tmp_path):
    image = np.random.default_rng(0).normal(0.3, 0.1, (6, 7, 8)).astype(np.float32)
    volume = Volume(image, Spacing(0.1, 0.05, 0.04), "1/um", {"simulated": True})
    return image, write_volume(tmp_path / "cell.mrc", volume)


@pytest.mark.parametrize(
    "suffix", [".tif", ".ome.tif", ".nii.gz", ".h5", ".zarr", ".rec"]
)
def test_values_spacing_and_unit_go_along(cell, tmp_path, suffix, capsys):
    image, source = cell
    target = tmp_path / f"copy{suffix}"

    assert main(["convert", str(source), str(target)]) == 0

    found = read_volume(target)
    np.testing.assert_array_equal(found.array, image)
    assert found.spacing.is_close(Spacing(0.1, 0.05, 0.04), 1e-6)
    assert found.intensity_unit == "1/um"
    assert found.provenance["simulated"] is True
    assert "6 x 7 x 8" in capsys.readouterr().out


def test_the_version_of_ome_zarr_is_an_option(cell, tmp_path, capsys):
    image, source = cell
    target = tmp_path / "copy.zarr"

    assert main(["convert", str(source), str(target), "--ome-zarr", "0.4"]) == 0

    assert (target / ".zgroup").is_file()
    np.testing.assert_array_equal(read_volume(target).array, image)
    assert main(["convert", str(source), "x.zarr", "--ome-zarr", "0.3"]) == 3
    assert "0.3" in capsys.readouterr().err


def test_labels_get_the_smallest_type_and_the_given_spacing(tmp_path):
    labels = np.zeros((3, 4, 5), np.float32)
    labels[1] = 300
    source = write_volume(tmp_path / "labels.tif", Volume(labels))
    target = tmp_path / "labels.nii.gz"

    words = ["--labels", "--spacing-um", "3", "2", "1"]
    assert main(["convert", str(source), str(target), *words]) == 0

    assert open_volume(target).dtype == np.uint16
    np.testing.assert_array_equal(read_labels(target).array, labels)
    assert open_volume(target).spacing.is_close(Spacing(3, 2, 1), 1e-6)


def test_a_target_that_stands_is_kept_unless_told(cell, tmp_path, capsys):
    image, source = cell
    target = write_volume(tmp_path / "copy.tif", Volume(image + 1))

    assert main(["convert", str(source), str(target)]) == 3
    assert "--overwrite" in capsys.readouterr().err
    np.testing.assert_array_equal(read_volume(target).array, image + 1)
    assert main(["convert", str(source), str(target), "--overwrite"]) == 0
    np.testing.assert_array_equal(read_volume(target).array, image)


def test_a_broken_source_writes_nothing(cell, tmp_path, capsys):
    _, source = cell
    source.write_bytes(source.read_bytes()[:-3])
    target = tmp_path / "copy.tif"

    assert main(["convert", str(source), str(target)]) == 2

    assert "incomplete" in capsys.readouterr().err
    assert not target.exists()


def test_what_a_format_cannot_hold_is_refused(tmp_path, capsys):
    source = write_volume(tmp_path / "cell.tif", Volume(np.ones((2, 3, 4)) / 3))

    assert main(["convert", str(source), str(tmp_path / "cell.mrc")]) == 2

    assert "MRC cannot hold float64" in capsys.readouterr().err


def test_a_source_that_changes_meanwhile_is_told(tmp_path, capsys, monkeypatch):
    source = write_volume(tmp_path / "a.mrc", Volume(np.zeros((2, 3, 4), np.uint16)))
    real = registry.write_volume

    def slow(*args, **options):
        with source.open("ab") as file:
            file.write(b"more")
        return real(*args, **options)

    monkeypatch.setattr(registry, "write_volume", slow)

    assert main(["convert", str(source), str(tmp_path / "b.tif")]) == 2
    assert "a.mrc: was changed while it was read" in capsys.readouterr().err
