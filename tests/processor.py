"""What the processor that runs the tests can do; asked as the code asks."""

import pytest
import torch

from cellseg3d.models.hardware import can_bfloat16

CPU = torch.device("cpu")
needs_bfloat16 = pytest.mark.skipif(
    not can_bfloat16(CPU), reason="this processor cannot compute in bfloat16"
)
PRECISIONS = ("float32", "bfloat16") if can_bfloat16(CPU) else ("float32",)
