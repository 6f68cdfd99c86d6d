"""Settings of all tests."""

from hypothesis import settings

# A busy machine is no failure; no test here is about time.
settings.register_profile("cellseg3d", deadline=None)
settings.load_profile("cellseg3d")
