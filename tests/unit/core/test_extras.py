"""Missing packages are named so that pip finds them from anywhere."""

from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.extras import missing_extra, packages_of


def test_the_packages_of_an_extra_are_named():
    error = missing_extra("objects need edt", "objects")

    assert isinstance(error, EnvironmentFault)
    assert 'pip install "connected-components-3d' in str(error)
    assert "cellseg3d[" not in str(error)


def test_every_extra_that_is_named_has_packages():
    for extra in ("objects", "report", "tune", "scale", "openvino"):
        assert all("extra" not in name for name in packages_of(extra))
        assert packages_of(extra) != [f".[{extra}]"]
