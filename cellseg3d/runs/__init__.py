"""The folder of a training run: configs, lock, record, weights."""
