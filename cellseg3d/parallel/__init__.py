"""Connections to Dask clusters."""
