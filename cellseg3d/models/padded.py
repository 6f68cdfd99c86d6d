"""Give a net of fixed stride any input size: pad at the far ends, cut after."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class PaddedNetwork(nn.Module):
    """A network that takes any spatial size and answers in the same size.

    The input is grown to the next multiple of the total stride by repeating its last
    voxels; only the far ends grow, so the first voxel keeps its place on the lattice
    of the strides. TorchScript and ONNX keep this for any size.

    Parameters
    ----------
    network : Module
        Takes (N, C, ...) whose sides are multiples of `total_stride`, answers
        (N, K, ...) of the same size.
    total_stride : sequence of int
        One number a spatial dimension.
    in_channels, num_classes : int
        C and K.
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
            # An exporter must not fix the branch to the size it happens to see.
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
