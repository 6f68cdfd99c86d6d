"""A processor without bfloat16, which oneDNN is told that it runs on."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import read_labels, write_labels, write_volume

OLD = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
# Four commands in one process: to import torch and MONAI takes longer than all of them.
SCRIPT = """
import sys
import monai.bundle
from cellseg3d.cli.main import main

data, run = sys.argv[1:]
tiny = ["network_def::channels=[4, 8]", "spec::patch_shape=[8, 8, 8]"]
tiny += ["train::dataset::samples=2", "val_interval=1"]
train = ["train", "--bundle", "cell_tomo_unet3d", "--data", data, "--out", run]
train += ["--device", "cpu", "--epochs", "1", "--no-calibrate", "--quiet"]
train += [word for setting in tiny for word in ("--set", setting)]
predict = ["predict", data + "/one_image.mrc", "--bundle", run, "--device", "cpu"]
half = ["--precision", "bfloat16"]

print("code: refused", main([*train, *half]), flush=True)
print("code: trained", main(train), flush=True)
print("code: refused", main([*predict, "--out", run + "/half", *half]), flush=True)
exact = ["--precision", "float32"]
print("code: predicted", main([*predict, "--out", run + "/exact", *exact]), flush=True)
for name in ("inference", "evaluate"):
    monai.bundle.run(
        run_id={"inference": "inferring", "evaluate": "evaluating"}[name],
        config_file=f"{run}/configs/{name}.json",
        logging_file=f"{run}/configs/logging.conf",
        dataset_dir=data,
        output_dir=run,
        output_ext=".mrc",
        precision="bfloat16",
    )
    print("code: ran", name, flush=True)
"""


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"),
    reason="oneDNN can be told to leave bfloat16 out on x86 alone",
)
def test_bfloat16_is_refused_or_float32_with_a_warning(tmp_path):
    random = np.random.default_rng(0)
    label = np.zeros((16, 16, 16), np.uint8)
    label[4:12, 5:15, 6:14] = 1
    for name in ("one", "two"):
        image = (label + random.normal(0, 0.2, label.shape)).astype(np.float32)
        spacing = Spacing(0.05, 0.05, 0.05)
        write_volume(tmp_path / f"{name}_image.mrc", Volume(image, spacing))
        write_labels(tmp_path / f"{name}_label.mrc", Volume(label, spacing))
    run = tmp_path / "run"

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), str(run)],
        env=os.environ | OLD,
        capture_output=True,
        text=True,
        check=False,
    )

    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    told = [line[6:] for line in done.stdout.splitlines() if line.startswith("code: ")]
    assert told == [
        "refused 4",
        "trained 0",
        "refused 4",
        "predicted 0",
        "ran inference",
        "ran evaluate",
    ]
    refusals = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(refusals) == 2
    assert all("take precision 'float32', or 'auto'" in line for line in refusals)
    assert "terminating due to exception" not in said
    assert "float32 is taken instead" in said
    file = "one_image_labels.mrc"
    found = read_labels(run / file).read()
    np.testing.assert_array_equal(found, read_labels(run / "exact" / file).read())
