"""Search for better settings of a training."""
