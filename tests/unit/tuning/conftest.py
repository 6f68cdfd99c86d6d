"""Runs on the data set of balls."""

from balls import balls, larger  # noqa: F401 - fixtures
