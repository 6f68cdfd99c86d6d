"""What is stored in half precision, and what is not."""

import torch
from torch import nn

from cellseg3d.weights.record import halved


def test_statistics_beyond_the_range_of_half_precision_stay_as_they_are():
    norm = nn.BatchNorm2d(3)
    norm.running_var.fill_(6e6)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), norm)

    stored = halved(network.state_dict())

    assert stored["0.weight"].dtype == torch.float16
    kept = {name for name, tensor in stored.items() if tensor.dtype == torch.float32}
    assert kept == {
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
    }
    assert stored["1.running_var"].tolist() == [6e6] * 3
    assert stored["1.num_batches_tracked"].dtype == torch.int64
