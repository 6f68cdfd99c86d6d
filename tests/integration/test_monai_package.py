"""Packages that stock MONAI wrote become bundles, and no code of theirs is run."""

import json
import shutil
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.take_in import import_package
from cellseg3d.cli.main import main
from cellseg3d.core.errors import CellSegError, ConfigError, InputError
from cellseg3d.core.volume import Volume
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment

CLASSES = ["background", "nucleus", "membrane"]


def write_package(folder, dims, classes=CLASSES, side="8*n"):
    """A small network, exported by MONAI as its model zoo does; return the network."""
    tensor = {"spatial_shape": [side] * dims, "dtype": "float32"}
    metadata = {
        "version": "0.3.1",
        "monai_version": "1.6.1",
        "name": "stranger",
        "task": "Nuclei and membranes",
        "authors": "A. Stranger",
        "license": "MIT",
        "references": ["Stranger 2020, doi:10.1000/1"],
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "num_channels": 1,
                    "value_range": [0, 1],
                    "channel_def": {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    "num_channels": len(classes),
                    "channel_def": {str(n): name for n, name in enumerate(classes)},
                }
            },
        },
    }
    config = {
        "imports": ["$import pathlib", "$pathlib.Path('marker').touch()"],
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": 50,
                    "a_max": 150,
                }
            ],
        },
        "network_def": {
            "_target_": "UNet",
            "spatial_dims": dims,
            "in_channels": 1,
            "out_channels": len(classes),
            "channels": [8, 16, 24],
            "strides": [2, 2],
            "num_res_units": 1,
        },
    }
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    files = [folder / "configs" / name for name in ("metadata.json", "inference.json")]
    for file, values in zip(files, (metadata, config), strict=True):
        file.write_text(json.dumps(values), encoding="utf-8")
    torch.manual_seed(5)
    block = {k: v for k, v in config["network_def"].items() if k != "_target_"}
    network = monai.networks.nets.UNet(**block).eval()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    monai.bundle.ckpt_export(
        "network_def",
        filepath=str(folder / "models" / "model.ts"),
        ckpt_file=str(folder / "models" / "model.pt"),
        meta_file=str(files[0]),
        config_file=str(files[1]),
    )
    Path("marker").unlink(missing_ok=True)
    return network


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Packages of 2D and 3D, and their networks."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        networks = {dims: write_package(folder / f"{dims}d", dims) for dims in (2, 3)}
    return folder, networks


@pytest.fixture
def package(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(written[0] / "2d", tmp_path / "package")


def noise(dims):
    """Sides that the network takes and one window holds."""
    shape = (24, 32, 40) if dims == 3 else (2, 64, 72)
    return np.random.default_rng(1).normal(100, 20, shape).astype(np.float32)


def probs_of(network, scaled_zyx, dims):
    """The probabilities (K, z, y, x) of the network itself."""
    block = torch.from_numpy(scaled_zyx.astype(np.float32))
    given = block[None, None] if dims == 3 else block[:, None]
    with torch.no_grad():
        found = network(given).softmax(1).numpy()
    return found[0] if dims == 3 else found.swapaxes(0, 1)


def our_probs(bundle, array):
    options = SegmentOptions(probs=True, precision="float32", adapt="off")
    return segment(Volume(array, None), load_model(bundle), options).probs


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_a_package_of_stock_monai_predicts_what_its_network_does(
    dims, packed, written, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder, networks = written
    place = folder / f"{dims}d"
    if packed:
        # MONAI's zoo packs the folder itself.
        archive = shutil.make_archive(str(tmp_path / "p"), "zip", folder, place.name)
        place = Path(archive)

    import_package(place, tmp_path / "taken", intensity="range:50:150")

    assert not (tmp_path / "marker").exists()
    model = load_model(tmp_path / "taken")
    assert model.classes == tuple(CLASSES)
    array = noise(dims)
    expected = probs_of(networks[dims], (array - 50) / 100, dims)
    assert expected.std() > 0.01
    np.testing.assert_allclose(our_probs(model.path, array), expected, atol=1e-5)
    said = read_config(tmp_path / "taken" / "configs" / "metadata.json")
    assert said["imported_from"]["format"] == "MONAI 1.6.1"
    assert (said["name"], said["license"]) == ("stranger", "MIT")


def test_an_assumed_scaling_is_said_and_can_be_replaced(package, written, caplog):
    import_package(package, Path("taken"))

    assert "percentiles .5 and 99.5 of a volume become 0 and 1" in caplog.text
    assert "ScaleIntensityRanged (a_min 50, a_max 150)" in caplog.text
    assert "assumed to be that of the files, z before y before x" in caplog.text
    card = Path("taken/docs/README.md").read_text(encoding="utf-8")
    assert "import the package again and give `intensity`" in card
    assert "doi:10.1000/1" in card
    array = noise(2)
    low, high = np.percentile(array, [0.5, 99.5])
    expected = probs_of(written[1][2], (array - low) / (high - low), 2)
    np.testing.assert_allclose(our_probs("taken", array), expected, atol=1e-3)

    import_package(package, Path("zscore"), intensity="zscore", axes="yx")

    expected = probs_of(written[1][2], (array - array.mean()) / array.std(), 2)
    np.testing.assert_allclose(our_probs("zscore", array), expected, atol=1e-3)
    import_package(package, Path("raw"), intensity="none")
    expected = probs_of(written[1][2], array, 2)
    np.testing.assert_allclose(our_probs("raw", array), expected, atol=1e-4)
    assert "assumed" in Path("raw/docs/README.md").read_text(encoding="utf-8")
    assert "assumed" not in Path("zscore/docs/README.md").read_text(encoding="utf-8")


def test_a_network_that_takes_x_first_sees_x_first(written, tmp_path):
    import_package(
        written[0] / "3d", tmp_path / "taken", axes="xyz", intensity="range:50:150"
    )

    array = noise(3)
    scaled = ((array - 50) / 100).transpose(2, 1, 0)
    expected = probs_of(written[1][3], scaled, 3).transpose(0, 3, 2, 1)
    found = our_probs(tmp_path / "taken", array)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    other = probs_of(written[1][3], (array - 50) / 100, 3)
    assert np.abs(found - other).max() > 1e-3


def test_channels_that_exclude_nothing_need_the_users_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = write_package(tmp_path / "package", 2, ["nucleus", "membrane"])

    with pytest.raises(ConfigError, match="pass activation softmax"):
        import_package(tmp_path / "package", tmp_path / "taken")
    import_package(
        tmp_path / "package", tmp_path / "taken", activation="sigmoid", intensity="none"
    )

    assert load_model("taken").classes == ("background", "nucleus", "membrane")
    array = np.random.default_rng(2).normal(0, 1, (1, 64, 72)).astype(np.float32)
    with torch.no_grad():
        probs = network(torch.from_numpy(array)[:, None])[0].sigmoid().numpy()
    expected = np.where(probs.max(0) > 0.5, probs.argmax(0) + 1, 0)
    found = segment(Volume(array, None), load_model("taken")).labels.array[0]
    assert (found == expected).mean() > 0.999
    assert set(np.unique(expected)) == {0, 1, 2}


def shapes(values):
    return values["network_data_format"]


def given(values):
    return shapes(values)["inputs"]["image"]


def answer(values):
    return shapes(values)["outputs"]["pred"]


CHANGES = {
    "two channels": (
        lambda v: given(v).update(num_channels=2, channel_def={"0": "CT", "1": "PET"}),
        r"takes 2 channels \(CT, PET\)",
    ),
    "two inputs": (lambda v: shapes(v)["inputs"].update(more={}), "only models of one"),
    "no range": (lambda v: given(v).pop("value_range"), "pass intensity zscore"),
    "a name too few": (
        lambda v: answer(v)["channel_def"].pop("2"),
        "names the channels 0, 1",
    ),
    "a class too many": (
        lambda v: (
            answer(v)["channel_def"].update({"3": "more"}),
            answer(v).update(num_channels=4),
        ),
        r"answers \[1, 3, 32, 32\]",
    ),
    "one side": (lambda v: given(v).update(spatial_shape=[8]), "two or three sides"),
    "three sides": (
        lambda v: given(v).update(spatial_shape=["8*n"] * 3),
        "does not take an input",
    ),
    "odd sides": (
        lambda v: given(v).update(spatial_shape=["n-1", "n"]),
        "a side of its input is 'n-1'",
    ),
    "huge sides": (
        lambda v: given(v).update(spatial_shape=[10**6, "999999*n"]),
        "too many voxels for one window",
    ),
    "endless": (
        lambda v: answer(v).update(num_channels=float("inf")),
        "description is incomplete",
    ),
    "no shapes": (lambda v: v.pop("network_data_format"), "verify_metadata"),
    "a text": (lambda v: v.update(network_data_format="x"), "verify_metadata"),
    "no name": (lambda v: v.pop("name"), "description is incomplete"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_metadata_that_do_not_fit_are_refused_with_a_way_out(package, change):
    act, words = CHANGES[change]
    path = package / "configs" / "metadata.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    act(values)
    path.write_text(json.dumps(values), encoding="utf-8")

    with pytest.raises(CellSegError, match=words):
        import_package(package, Path("taken"))

    assert not Path("taken").exists()
    assert not Path("marker").exists()


def test_weights_that_need_their_authors_code_are_refused(package, capsys):
    (package / "models" / "model.ts").unlink()

    assert main(["bundle", "import", str(package), "--out", "taken"]) == 3

    error = capsys.readouterr().err
    assert "has no models/model.ts" in error
    assert "ckpt_export" in error
    assert not Path("taken").exists()
    assert not Path("marker").exists()


class Saves(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        torch.ops.aten.save(image, "marker")
        return torch.cat([image, image, image], 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_that_writes_files_is_not_loaded(package):
    torch.jit.script(Saves()).save(str(package / "models" / "model.ts"))
    Path("marker").unlink(missing_ok=True)

    with pytest.raises(ConfigError, match=r"uses 'save'.*nothing was run"):
        import_package(package, Path("taken"))

    assert not Path("marker").exists()


@pytest.mark.parametrize("text", ["range", "range:1:x", "none:1", "percentile:9:1"])
def test_a_scaling_that_makes_no_sense_is_refused(package, text):
    with pytest.raises(ConfigError, match="expected"):
        import_package(package, Path("taken"), intensity=text)


def test_a_folder_of_neither_kind_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"holds neither rdf\.yaml nor configs/metadata"
    ):
        import_package(tmp_path, tmp_path / "taken")
