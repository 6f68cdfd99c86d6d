"""Let a network of fixed stride take any size, by padding the input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class PaddedNetwork(nn.Module):
    """A network that takes any spatial size and returns the same size.

    The input is padded to the next multiple of the stride by repeating its last voxels.
    Only the far ends are padded, so the first voxel keeps its position relative to the
    strides. TorchScript and ONNX exports keep this for any size.

    Parameters
    ----------
    network : Module
        Takes (N, C, ...) whose sides are multiples of `total_stride` and returns
        (N, K, ...) of the same size.
    total_stride : sequence of int
        One number per spatial dimension.
    in_channels, num_classes : int
        The numbers of channels C and of classes K.
    """

    spatial_dims: int
    total_stride: list[int]
    in_channels: int
    num_classes: int

    def __init__(
        self,
        network: nn.Module,
        total_stride: Sequence[int],
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.total_stride = [int(stride) for stride in total_stride]
        self.spatial_dims = len(self.total_stride)
        self.in_channels = in_channels
        self.num_classes = num_classes

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, ...) of the image's spatial size.

        Parameters
        ----------
        image : tensor of float, shape (N, C, H, W) or (N, C, Z, Y, X)
            Scaled intensities.
        """
        dims = self.spatial_dims
        far_ends: list[int] = []
        for dim in range(dims):
            stride = self.total_stride[dims - 1 - dim]
            far_ends += [0, (stride - image.size(-1 - dim) % stride) % stride]
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            whole = max(far_ends) == 0
        else:
            # An exporter must not fix the branch for the size of its example input.
            whole = not torch.compiler.is_exporting() and not any(far_ends)
        if not whole:
            image_padded = functional.pad(image, far_ends, mode="replicate")
        else:
            image_padded = image
        logits: Tensor = self.network(image_padded)
        if not whole:
            for dim in range(dims):
                logits = logits.narrow(-1 - dim, 0, image.size(-1 - dim))
        return logits
