"""`predict --overlay` draws a picture beside the labels, together with them."""

import numpy as np
import pytest
from PIL import Image
from small_bundle import small_bundle
from small_models import noise_volume

from cellseg3d.cli.main import main
from cellseg3d.core.colours import LABEL_COLOURS
from cellseg3d.io.listing import content_of
from cellseg3d.io.registry import read_volume, write_volume


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("b") / "toy", core=16, halo=8)


def predict(folder, bundle, *more):
    words = ["predict", str(folder / "a.b;c d.tif"), "--bundle", str(bundle)]
    words += ["--out", str(folder / "out"), "--device", "cpu", "--overlay"]
    return main([*words, *more])


@pytest.mark.parametrize("more", [[], ["--objects", "--format", ".ome.zarr"]])
def test_the_overlay_comes_with_the_labels(bundle, tmp_path, more):
    write_volume(tmp_path / "a.b;c d.tif", noise_volume((16, 24, 24)))

    assert predict(tmp_path, bundle, *more) == 0

    out = tmp_path / "out"
    pixels = np.asarray(Image.open(out / "a.b;c d_overlay.png"))
    suffix = more[-1] if more else ".tif"
    labels = read_volume(out / f"a.b;c d_labels{suffix}").read()
    shown = (pixels == LABEL_COLOURS[1]).all(axis=2).any()
    assert shown == bool((labels == 1).any())
    assert pixels.shape[0] > 100
    # It is a result, and neither an image nor labels.
    assert out / "a.b;c d_overlay.png" in content_of(out).results
    assert not list(out.glob("*.partial"))


def test_an_overlay_that_is_missing_is_drawn_and_a_foreign_one_is_kept(
    bundle, tmp_path, capsys
):
    write_volume(tmp_path / "a.b;c d.tif", noise_volume((16, 24, 24)))
    assert predict(tmp_path, bundle) == 0
    picture = tmp_path / "out" / "a.b;c d_overlay.png"
    first = picture.read_bytes()
    picture.unlink()

    assert predict(tmp_path, bundle, "--resume") == 0
    assert picture.read_bytes() == first

    (tmp_path / "out" / "a.b;c d_labels.tif").unlink()
    (tmp_path / "out" / "a.b;c d_labels.json").unlink()
    picture.write_bytes(b"mine")
    assert predict(tmp_path, bundle) != 0
    assert picture.read_bytes() == b"mine"
    assert "overlay.png: exists already" in capsys.readouterr().err
