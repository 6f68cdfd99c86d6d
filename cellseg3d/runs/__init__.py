"""Make and read the folder of a training run: its configs, lock, record and weights."""
