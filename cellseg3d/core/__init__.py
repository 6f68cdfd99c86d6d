"""Geometry and errors that every other package uses; this package needs only NumPy."""
