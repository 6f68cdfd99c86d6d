"""A malformed bundle ends in one line that names the file, never as our own fault."""

import pytest
from test_model import SPEC, change, folder  # noqa: F401 - a fixture

from cellseg3d.bundle.model import load_model
from cellseg3d.core.errors import CellSegError

BLOCKS = {
    "spec_list": ("spec", [1, 2]),
    "spec_text": ("spec", "2D"),
    "spec_nan": ("spec", {**SPEC, "patch_shape": [float("nan"), 16]}),
    "spec_keys": ("spec", {"spatial_dims": 2}),
    "spec_none": ("spec", {**SPEC, "context": None}),
    "cycle": ("spec", {"spatial_dims": "@spec"}),
    "window_list": ("window", [1]),
    "intensity_list": ("intensity", ["percentile"]),
    "network_number": ("network_def", 3),
    "network_keys": (
        "network_def",
        {"_target_": "cellseg3d.bundle.model_facts.network_for"},
    ),
}
FILES = {
    "empty": ("configs/inference.json", b""),
    "list": ("configs/inference.json", b"[]"),
    "no_keys": ("configs/inference.json", b"{}"),
    "metadata_list": ("configs/metadata.json", b"[1]"),
    "weights_empty": ("models/model.safetensors", b""),
    "weights_text": ("models/model.safetensors", b'{"a": 1}'),
}


@pytest.mark.parametrize("case", [*BLOCKS, *FILES])
def test_it_is_one_line(folder, case):  # noqa: F811
    if case in BLOCKS:
        change(folder, *BLOCKS[case])
    else:
        name, content = FILES[case]
        (folder / name).write_bytes(content)

    with pytest.raises(CellSegError) as caught:
        load_model(folder)
    assert caught.value.exit_code in (2, 3)
    assert len(str(caught.value).splitlines()) == 1
