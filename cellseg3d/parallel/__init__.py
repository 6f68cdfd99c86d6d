"""Connect to Dask clusters."""
