"""What a command may load: reading, scoring and helping never load torch."""

import json
import subprocess
import sys

import pytest

import cellseg3d
from cellseg3d.cli.main import VERBS

HEAVY = ("torch", "monai", "ignite")


def loaded_by(code: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter holds after `code`."""
    names = "sorted({name.split('.')[0] for name in sys.modules})"
    report = f"import json, sys; print(json.dumps({names}))"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_loads_nothing_that_takes_time(words):
    code = f"from cellseg3d.cli.main import main\nassert main({words!r}) == 0"

    loaded = loaded_by(code)

    assert loaded.isdisjoint({*HEAVY, "scipy", "zarr", "matplotlib", "pandas"})


def test_every_verb_explains_itself_without_loading_a_network():
    calls = "\n".join(f"assert main([{verb!r}, '--help']) == 0" for verb in VERBS)

    loaded = loaded_by(f"from cellseg3d.cli.main import main\n{calls}")

    assert loaded.isdisjoint(HEAVY)


# What runs or trains a network may load what it needs, when it is first asked for.
NEED_A_NETWORK = ("SegmentOptions", "TrainOptions", "load_model", "train")


def test_the_public_names_exist_and_only_those_of_networks_load_one():
    code = (
        "import cellseg3d\n"
        f"for name in set(cellseg3d.__all__) - set({NEED_A_NETWORK!r}):\n"
        "    assert getattr(cellseg3d, name) is not None, name"
    )

    assert loaded_by(code).isdisjoint(HEAVY)
    assert all(callable(getattr(cellseg3d, name)) for name in NEED_A_NETWORK)
