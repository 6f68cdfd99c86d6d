import subprocess
import sys
from importlib import import_module
from pydoc import locate

import pytest

from cellseg3d.core.old_names import MOVED, OldModules, current_name
from cellseg3d.datasets.intensity import IntensityScale


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_module_is_todays_module(old):
    assert import_module(f"cellseg3d.{old}") is import_module(f"cellseg3d.{MOVED[old]}")


def test_an_old_name_is_located_as_monai_does_it():
    assert locate("cellseg3d.data.intensity.IntensityScale") is IntensityScale
    assert IntensityScale.__module__ == "cellseg3d.datasets.intensity"


def test_names_that_did_not_move_stay():
    for name in ("cellseg3d.models.unet.build_network", "torch.nn.Conv2d", "cellseg3d"):
        assert current_name(name) == name
    assert current_name("cellseg3d.data") == "cellseg3d.data"


def test_names_that_never_were_are_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"cellseg3d\.data\.nothing"):
        import_module("cellseg3d.data.nothing")
    assert OldModules().find_spec("cellseg3d.nothing") is None
    assert OldModules().find_spec("elsewhere.data") is None


def test_old_and_new_import_in_any_order():
    code = (
        "import cellseg3d.data.intensity as old, cellseg3d.datasets.intensity as new; "
        "import sys; assert old is new; "
        "assert new.__spec__.name == 'cellseg3d.datasets.intensity'; "
        "assert sum(type(f).__name__ == 'OldModules' for f in sys.meta_path) == 1"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
