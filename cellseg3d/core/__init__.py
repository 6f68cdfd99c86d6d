"""Geometry and errors: axes, spacing, regions, grids, volumes; numpy only."""
