"""Read and write volumes in HDF5 files."""
