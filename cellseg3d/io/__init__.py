"""Read and write volumes: one format a module, one registry over them."""
