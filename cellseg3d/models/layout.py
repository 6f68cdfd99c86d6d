"""In which order the numbers of an image lie in memory."""

import torch


def memory_layout(dims: int) -> torch.memory_format:
    """Return the memory layout in which convolutions of 2 or 3 dimensions run best."""
    return torch.channels_last if dims == 2 else torch.channels_last_3d
