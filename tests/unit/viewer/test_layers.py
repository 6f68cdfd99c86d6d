"""What napari gets of volumes, and what volumes are made of its layers."""

from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from small_bundle import small_bundle
from two_stains import NAMES, two_stains, write_stains
from two_stains import SPACING as STAINED

from cellseg3d.bundle.model import load_model
from cellseg3d.core.colours import LABEL_COLOURS
from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.prediction.segment import segment
from cellseg3d.review.merge import merge_reviews, reviewed_pieces
from cellseg3d.viewer.files import get_reader
from cellseg3d.viewer.layers import SPACING, channels_beside, colours_of, volume_of
from cellseg3d.viewer.predict import Wanted, bundles_with_weights, segment_layer
from cellseg3d.viewer.review import (
    pick_pieces,
    piece_layers,
    save_piece,
    train_command,
)
from cellseg3d.viewer.samples import simulated_cell

EDGES = Spacing(0.2, 0.1, 0.1)


def layer(data, **changed):
    """A layer as napari has them, as far as it is looked at."""
    noted = {SPACING: EDGES.zyx}
    values = {"name": "cells", "metadata": noted, "units": None, "translate": (0, 0, 0)}
    values |= {"scale": EDGES.zyx, "rgb": False, "multiscale": False}
    values["source"] = SimpleNamespace(path=None)
    return SimpleNamespace(data=data, **(values | changed))


def noise(shape=(8, 32, 40)):
    return np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)


@pytest.mark.parametrize("suffix", [".mrc", ".nii.gz", ".h5", ".ome.zarr"])
def test_a_file_is_opened_lazily_with_its_spacing_in_um(tmp_path, suffix):
    array = noise()
    write_volume(tmp_path / f"cells{suffix}", Volume(array, EDGES))
    path = str(tmp_path / f"cells{suffix}")

    [(data, keywords, kind)] = get_reader(path)(path)

    assert kind == "image"
    assert not isinstance(data, np.ndarray)
    np.testing.assert_array_equal(data[3], array[3])
    assert keywords["scale"] == pytest.approx(EDGES.zyx)
    assert keywords["units"] == ("um", "um", "um")
    low, high = np.percentile(array, [0.5, 99.5])
    assert keywords["contrast_limits"] == pytest.approx((low, high), rel=1e-5)


def test_labels_are_labels_that_can_be_painted(tmp_path):
    labels = (noise() > 100).astype(np.uint8)
    write_labels(tmp_path / "cells_labels.mrc", Volume(labels, EDGES))
    path = str(tmp_path / "cells_labels.mrc")

    [(data, _, kind)] = get_reader(path)(path)

    assert kind == "labels"
    data[0, 0, 0] = 2
    assert data[0, 0, 0] == 2
    np.testing.assert_array_equal(data[1:], labels[1:])


def test_several_files_are_left_to_other_readers():
    assert get_reader(["a.mrc", "b.mrc"]) is None


@pytest.mark.parametrize(
    "given", [layer(noise((3, 8, 32, 40))), layer(noise((8, 32, 3)), rgb=True)]
)
def test_a_layer_of_channels_or_colours_is_refused(given):
    with pytest.raises(AxisError, match="expected one channel"):
        volume_of(given)


def test_pixels_are_no_lengths():
    given = layer(noise(), metadata={}, units=("pixel",) * 3, scale=(1.0, 1.0, 1.0))

    assert volume_of(given).spacing is None
    assert volume_of(layer(noise())).spacing == EDGES


def test_segmenting_a_layer_gives_what_segment_gives(tmp_path):
    bundle = small_bundle(tmp_path / "bundle")
    image = layer(noise())
    seen = []

    made = segment_layer(
        image,
        Wanted(str(bundle), uncertainty=True),
        lambda done, whole: seen.append((done, whole)),
    )

    expected = segment(Volume(image.data, EDGES), load_model(bundle)).labels.array
    (labels, keywords, kind), (unsure, _, other) = made
    assert (kind, other) == ("labels", "image")
    np.testing.assert_array_equal(labels, expected)
    assert 0 < expected.mean() < 1
    assert keywords["features"]["class"] == ["background", "cell"]
    assert keywords["scale"] == image.scale
    assert unsure.shape == labels.shape
    assert 0 <= unsure.min() < unsure.max() <= 1
    assert seen[-1] == (image.data.size, image.data.size)


def test_an_error_of_the_progress_stops_the_segmentation(tmp_path):
    bundle = small_bundle(tmp_path / "bundle")

    def stop(done, whole):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        segment_layer(layer(noise()), Wanted(str(bundle)), stop)


def test_objects_are_numbered(tmp_path):
    pytest.importorskip("cc3d")
    bundle = small_bundle(tmp_path / "bundle")

    made = segment_layer(layer(noise()), Wanted(str(bundle), objects=True))

    ids, keywords, kind = made[1]
    assert kind == "labels"
    assert keywords["name"] == f"cells objects ({ids.max()})"
    assert "features" not in keywords


def test_a_2d_image_gets_2d_labels(tmp_path):
    bundle = small_bundle(tmp_path / "bundle", 2)
    edges = (0.1, 0.1)

    [(labels, keywords, _)] = segment_layer(
        layer(noise()[0], scale=edges), Wanted(str(bundle))
    )

    assert labels.shape == (32, 40)
    assert keywords["scale"] == edges


def test_pieces_are_corrected_saved_and_counted(tmp_path):
    """The piece that was changed and the one that was right as it is both count."""
    bundle = small_bundle(tmp_path / "bundle")
    write_volume(tmp_path / "cells.mrc", Volume(noise(), EDGES))
    path = str(tmp_path / "cells.mrc")
    image = layer(noise(), source=SimpleNamespace(path=path))

    review = pick_pieces(image, str(bundle), tmp_path / "review", 3)
    first, second, _third = review.pieces
    (_, _, kind), (labels, keywords, other) = piece_layers(review, first)
    assert (kind, other) == ("image", "labels")
    changed = 1 - labels
    save_piece(review, first, changed)
    save_piece(review, second, piece_layers(review, second)[1][0])

    found = {each.piece.name: each for each in reviewed_pieces(review)}
    assert set(found) == {first.name, second.name}
    np.testing.assert_array_equal(found[first.name].corrected, changed[0])
    assert found[second.name].changed == 0
    assert keywords["scale"] == pytest.approx(EDGES.zyx)
    with pytest.raises(ConfigError, match="holds the value 7; paint with 0 background"):
        save_piece(review, first, np.full_like(labels, 7))


def test_a_layer_without_a_file_cannot_be_reviewed(tmp_path):
    with pytest.raises(ConfigError, match="comes from no file"):
        pick_pieces(layer(noise()), "b", tmp_path, 3)


def test_a_training_is_the_one_of_the_command_line(tmp_path):
    command = train_command("bundle", tmp_path / "data", tmp_path / "run", 2.5)

    assert command[1:4] == ["-m", "cellseg3d", "train"]
    words = dict(zip(command[4:-1:2], command[5::2], strict=True))
    assert words["--fold"] == "none"
    assert words["--minutes"] == "2.5"


def test_the_sample_is_a_cell_with_its_labels():
    (tomogram, keywords, kind), (labels, _, other) = simulated_cell()

    assert (kind, other) == ("image", "labels")
    assert keywords["scale"] == (0.05, 0.05, 0.05)
    assert tomogram[labels > 0].mean() > tomogram[labels == 0].mean()


def test_colours_are_those_of_all_pictures():
    found = colours_of(10)

    assert found[0] == found[None] == "transparent"
    np.testing.assert_allclose(found[1] * 255, LABEL_COLOURS[1])
    np.testing.assert_allclose(found[8], found[1])


def test_bundles_that_can_segment_are_offered():
    assert {"cell_tomo_unet3d", "nuclei_unet2d"} <= set(bundles_with_weights())


def test_the_manifest_names_functions_that_exist():
    text = files("cellseg3d.viewer").joinpath("napari.yaml").read_text("utf-8")
    contributions = yaml.safe_load(text)["contributions"]
    commands = {one["id"]: one["python_name"] for one in contributions["commands"]}
    used = [contributions[kind] for kind in ("readers", "widgets", "sample_data")]

    assert {one["command"] for kind in used for one in kind} == set(commands)
    for place in commands.values():
        module, _, name = place.partition(":")
        package, _, file = module.rpartition(".")
        source = files(package).joinpath(f"{file}.py").read_text("utf-8")
        assert f"def {name}(" in source or f"class {name}(" in source


@pytest.fixture
def stained(tmp_path):
    """An image of two stains, its file and its layers as napari has them."""
    image, _ = two_stains(1, shape=(6, 24, 20))
    place = write_stains(tmp_path / "cell.ome.tif", image)
    found = [
        layer(data, **keywords, source=SimpleNamespace(path=str(place)))
        for data, keywords, _ in get_reader(str(place))(str(place))
    ]
    return image, place, found


class Layers(list):
    """The layers of a viewer, as far as they are looked at."""

    selection: tuple = ()


def test_each_channel_of_a_file_becomes_a_layer(stained):
    image, _, (dapi, actin) = stained

    assert (dapi.name, actin.name) == ("cell, DAPI", "cell, actin")
    assert dapi.data.ndim == 3
    np.testing.assert_array_equal(actin.data[2], image[1, 2])
    assert dapi.colormap != actin.colormap
    assert dapi.metadata[SPACING] == pytest.approx(STAINED.zyx)


def test_a_network_of_two_stains_gets_both_layers(stained, tmp_path):
    image, _, (dapi, actin) = stained
    bundle = small_bundle(tmp_path / "bundle", stains=NAMES)
    both = Volume(image, STAINED, channel_names=NAMES)
    expected = segment(both, load_model(bundle)).labels.read()
    assert 0 < expected.mean() < 1
    wanted = Wanted(str(bundle))
    four = layer(image, scale=(1, *STAINED.zyx), translate=(0,) * 4)

    # The names put the channels in order; one layer of four axes is taken as it is.
    for given in ([dapi, actin], [actin, dapi], [four]):
        [(labels, keywords, _)] = segment_layer(given[0], wanted, channels=given)

        np.testing.assert_array_equal(labels, expected)
        assert tuple(keywords["scale"]) == pytest.approx(STAINED.zyx)
        assert len(keywords["translate"]) == 3
        assert keywords["name"] == ("cells labels" if four in given else "cell labels")


def test_missing_channels_are_told_with_the_way_out(stained, tmp_path):
    _, _, (dapi, actin) = stained
    bundle = small_bundle(tmp_path / "bundle", stains=NAMES)
    cut = layer(actin.data[:3])

    with pytest.raises(AxisError, match="expected 2 channels, but found 1 layer"):
        segment_layer(dapi, Wanted(str(bundle)))
    with pytest.raises(AxisError, match="differ in shape"):
        segment_layer(dapi, Wanted(str(bundle)), channels=[dapi, cut])


def test_the_channels_are_those_of_the_file_or_those_selected(stained):
    _, _, (dapi, actin) = stained
    alone, labels = layer(noise()), SimpleNamespace(source=dapi.source)
    layers = Layers([dapi, labels, actin, alone])

    assert channels_beside(actin, layers) == [dapi, actin]
    assert channels_beside(alone, layers) == [alone]
    layers.selection = (actin, alone)
    assert channels_beside(alone, layers) == [actin, alone]
    layers.selection = (dapi, labels)
    assert channels_beside(dapi, layers) == [dapi, actin]


def test_corrections_of_two_stains_are_a_data_set_of_two_stains(stained, tmp_path):
    image, _, layers = stained
    bundle = small_bundle(tmp_path / "bundle", stains=NAMES)

    review = pick_pieces(layers[0], str(bundle), tmp_path / "review", 2)
    for piece in review.pieces:
        *shown, (labels, _, _) = piece_layers(review, piece)
        assert [each[1]["name"] for each in shown] == ["piece, DAPI", "piece, actin"]
        save_piece(review, piece, 1 - labels)
    data = merge_reviews([review.folder], tmp_path / "data")

    cases = load_datalist(tmp_path / "data").cases
    assert {case.channels for case in cases} == {NAMES}
    found = cases[0].open_image()
    assert found.channel_names == NAMES
    assert found.read().max() <= image.max()
    assert data is not None
