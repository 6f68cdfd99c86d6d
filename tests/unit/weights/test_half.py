"""What weights are shipped in: float16, but for values that it cannot hold."""

import torch

from cellseg3d.weights.record import in_half


def test_large_variances_stay_in_float32():
    small, large = torch.tensor([0.5, 60000.0]), torch.tensor([0.5, 358952.5])

    assert in_half(small).dtype == torch.float16
    assert in_half(large).dtype == torch.float32
    assert in_half(torch.tensor([3])).dtype == torch.int64
    torch.testing.assert_close(in_half(large), large, rtol=0, atol=0)
