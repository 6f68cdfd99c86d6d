"""Killed at any moment, and called again: all outputs are there, and right."""

from pathlib import Path

import numpy as np
import pytest
from small_bundle import small_bundle
from small_models import noise_volume

from cellseg3d.cli.main import main
from cellseg3d.core import atomic
from cellseg3d.io.output import region_writer
from cellseg3d.io.registry import open_volume, write_volume
from cellseg3d.prediction.output import blockwise

SHAPE = (16, 20, 24)


class Killed(BaseException):
    """Ends all at once, as far as a test can."""


class DiesAt:
    """Lets calls that change the disk through, until the n-th."""

    def __init__(self, patch, number):
        self.left, self.died = number, False
        for owner, name in (
            (Path, "replace"),
            (Path, "rename"),
            (Path, "unlink"),
            (region_writer.shutil, "rmtree"),
            (blockwise.Journal, "finish"),
        ):
            patch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, call):
        def wrapped(*args, **options):
            if self.died:  # nothing is cleaned up after a kill
                raise Killed
            self.left -= 1
            if self.left == 0:
                self.died = True
                raise Killed
            return call(*args, **options)

        return wrapped


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("b") / "toy", core=16, halo=4)


def predict(volume, bundle, out, *more):
    words = ["predict", str(volume), "--bundle", str(bundle), "--out", str(out)]
    words += ["--device", "cpu", "--precision", "float32", "--probs", "uint8"]
    return main([*words, "--uncertainty", "--objects", *more])


def contents(folder):
    volumes = [each for each in folder.iterdir() if each.suffix != ".json"]
    return {each.name: open_volume(each).read() for each in volumes}


SLOW = [(suffix, 1) for suffix in (".tif", ".nii.gz", ".ome.zarr", ".mrc", ".h5")]


@pytest.mark.parametrize(
    ("suffix", "step"),
    [(".tif", 7), *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)],
)
def test_the_same_command_again_ends_with_all_outputs(tmp_path, bundle, suffix, step):
    source = write_volume(tmp_path / "a.mrc", noise_volume(SHAPE))
    good = tmp_path / "good"
    assert predict(source, bundle, good, "--format", suffix) == 0
    right = contents(good)
    names = {f"a_{each}{suffix}" for each in ("labels", "objects", "uncertainty")}
    assert set(right) == names | {f"a_prob_{c}{suffix}" for c in ("background", "cell")}
    assert len(np.unique(right[f"a_labels{suffix}"])) == 2

    moments = 0
    for number in range(1, 200, step):
        out = tmp_path / f"{number}"
        with pytest.MonkeyPatch.context() as patch:
            dies = DiesAt(patch, number)
            try:
                predict(source, bundle, out, "--format", suffix)
            except Killed:
                moments += 1
        was_complete = out.is_dir() and {*right, "a_labels.json"} == {
            each.name for each in out.iterdir() if not each.name.endswith(".partial")
        }
        # Where nothing was left to do, --resume alone says so without an error.
        more = ["--resume"] if number % 2 or not dies.died else []
        code = predict(source, bundle, out, "--format", suffix, *more)
        assert code == 0 or (code == 3 and was_complete)
        found = contents(out)
        assert set(found) == set(right)
        for name, values in right.items():
            np.testing.assert_array_equal(found[name], values)
        assert (out / "a_labels.json").is_file()
        left = {each.name for each in out.iterdir()} - set(right)
        assert left == {"a_labels.json"}
        if not dies.died:
            break
    assert moments > 20 // step
    assert atomic.sweep_orphans(tmp_path) == []
