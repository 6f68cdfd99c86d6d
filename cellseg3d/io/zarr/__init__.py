"""Read and write OME-Zarr 0.4 and 0.5."""
