"""Read and write volumes: each format has a module, and `registry` chooses it."""
