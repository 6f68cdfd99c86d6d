"""List the packages; setup.cfg holds everything else."""

from setuptools import find_packages, setup

setup(
    # The bundles lie at the top of the checkout and inside the installed package.
    packages=[
        *find_packages(include=["cellseg3d", "cellseg3d.*"]),
        "cellseg3d.bundles",
    ],
    package_dir={"cellseg3d.bundles": "bundles"},
)
