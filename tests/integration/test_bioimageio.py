"""Packages of bioimage.io: its own client runs ours, and we run those of others."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from small_bundle import small_bundle

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.bioimageio.export import export_bioimageio
from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.shipped import shipped_bundles, weights_file
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment

SHIPPED = sorted(
    name for name, at in shipped_bundles().items() if weights_file(at).is_file()
)
KINDS = {"2D": (2, 0), "2.5D": (2, 1), "3D": (3, 0)}
SCALES = {
    "percentile": {"mode": "percentile", "lower": 2, "upper": 98},
    "range": {"mode": "range", "lower": 40, "upper": 160},
    "zscore": {"mode": "zscore"},
}
# Runs in a process of its own: the client's imports warn of this and that.
CLIENT = """
import json, sys
import numpy as np
from bioimageio.core import load_model_description, test_model
from bioimageio.core.prediction import predict

package, image, out = sys.argv[1:]
summary = test_model(package)
array = np.load(image)
model = load_model_description(package)
found = predict(model=model, inputs={"image": array})
np.save(out, found.members["probabilities"].data.values)
names = [detail.name for detail in summary.details]
print(json.dumps({"status": summary.status, "checks": names}))
"""


def scaled_bundle(folder, kind, scale):
    """A small network of one kind whose bundle scales intensities in one way."""
    dims, context = KINDS[kind]
    bundle = small_bundle(folder, dims, context)
    path = bundle / "configs" / "inference.json"
    config = read_config(path)
    target = config["intensity"]["_target_"]
    write_config(path, config | {"intensity": {"_target_": target, **SCALES[scale]}})
    return bundle


def volume_for(model, seed=5):
    random = np.random.default_rng(seed)
    shape = (
        (32, 48, 64)
        if model.spec.spatial_dims == 3
        else (2 * model.spec.context + 1, 64, 96)
    )
    array = random.normal(100, 20, shape).astype(np.float32)
    return Volume(array, model.spacing_um or Spacing(0.1, 0.1, 0.1))


def our_probs(model, volume):
    """The probabilities (K, Z, Y, X) of the plain network, windows and all."""
    options = SegmentOptions(probs=True, acceleration="off", precision="float32")
    return segment(volume, model, options).probs


def asked(script, *words):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check_with_the_client(bundle, tmp_path):
    pytest.importorskip("bioimageio.core", reason="pip install 'cellseg3d[bioimageio]'")
    package = export_bioimageio(bundle, tmp_path / "package")
    model = load_model(bundle)
    volume = volume_for(model)
    given = (
        volume.array[None, None] if model.spec.spatial_dims == 3 else volume.array[None]
    )
    np.save(tmp_path / "given.npy", given)

    said = asked(CLIENT, package, tmp_path / "given.npy", tmp_path / "found.npy")

    assert said["status"] == "passed", said
    assert any("inference" in name for name in said["checks"])
    found = np.load(tmp_path / "found.npy")[0]
    ours = our_probs(model, volume)
    if model.spec.spatial_dims == 2:
        ours = ours[:, model.spec.context]
    assert ours.std() > 1e-3
    np.testing.assert_allclose(found, ours, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_the_official_client_passes_each_shipped_bundle_and_predicts_the_same(
    name, tmp_path
):
    check_with_the_client(shipped_bundles()[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scale"), [("2.5D", "percentile"), ("2D", "range"), ("3D", "zscore")]
)
def test_the_official_client_passes_every_kind_of_input_and_scaling(
    kind, scale, tmp_path
):
    check_with_the_client(scaled_bundle(tmp_path / "bundle", kind, scale), tmp_path)
