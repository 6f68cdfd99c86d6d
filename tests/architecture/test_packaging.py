import configparser
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_bundle_is_installed_with_the_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")

    installed = dict(setup["options.data_files"])

    for bundle in (path for path in (ROOT / "bundles").iterdir() if path.is_dir()):
        target = f"share/cellseg3d/bundles/{bundle.name}"
        assert installed[f"{target}/configs"] == f"bundles/{bundle.name}/configs/*"
        assert installed[f"{target}/docs"] == f"bundles/{bundle.name}/docs/*"
        assert installed[target] == f"bundles/{bundle.name}/LICENSE"
