"""From a volume to probabilities, labels and instances: the one path of a voxel."""
