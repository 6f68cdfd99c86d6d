"""A U-Net that reads a stack slice by slice with a ConvLSTM."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cellseg3d.models.ladder import Ladder
from cellseg3d.models.order import Built, Order
from cellseg3d.models.residual import ConvBlock, ResidualBlock, UpBlock


class ConvLSTM(nn.Module):
    """A long short-term memory whose gates are convolutions [1]_.

    References
    ----------
    .. [1] Shi et al. 2015, NeurIPS, arXiv:1506.04214
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        with torch.no_grad():
            # Start by remembering: the usual bias of 1 at the forget gate.
            self.gates.bias[width : 2 * width] = 1.0  # type: ignore[index]

    def forward(self, sequence: list[Tensor]) -> Tensor:
        """Return the state after the last of a list of features (N, C, H, W)."""
        hidden = torch.zeros_like(sequence[0])
        memory = torch.zeros_like(sequence[0])
        for features in sequence:
            gates = self.gates(torch.cat([features, hidden], dim=1))
            take, keep, show, new = gates.chunk(4, dim=1)
            memory = keep.sigmoid() * memory + take.sigmoid() * new.tanh()
            hidden = show.sigmoid() * memory.tanh()
        return hidden


class ConvLSTMUNet(nn.Module):
    """A residual U-Net that joins the slices of a stack with ConvLSTMs.

    One encoder reads all slices. At the lowest level one ConvLSTM runs from the first
    slice to the centre and another from the last to the centre. The decoder combines
    both results with the centre slice's features into the logits of the centre slice.

    Parameters
    ----------
    image_channels : int
        Number of channels of one slice.
    slices : int
        Odd number of slices; the input has image_channels x slices channels.
    num_classes : int
    ladder : Ladder
        Kernels and strides of the levels.
    channels : sequence of int
        Number of channels of each level.
    """

    def __init__(
        self,
        image_channels: int,
        slices: int,
        num_classes: int,
        ladder: Ladder,
        channels: Sequence[int],
    ) -> None:
        super().__init__()
        self.image_channels, self.slices = image_channels, slices
        levels = list(zip(channels, ladder.kernels, ladder.strides, strict=True))
        self.stem = ConvBlock(image_channels, channels[0], ladder.kernels[0], "batch")
        self.down = nn.ModuleList(
            ResidualBlock(channels[index], width, kernel, stride, "batch")
            for index, (width, kernel, stride) in enumerate(levels[1:])
        )
        width = channels[-1]
        self.forwards, self.backwards = ConvLSTM(width), ConvLSTM(width)
        self.join = ConvBlock(3 * width, width, (1, 1), "batch")
        self.up = nn.ModuleList(
            UpBlock(
                channels[index + 1],
                width,
                kernel,
                ladder.strides[index + 1],
                "batch",
                light=index == 0,
            )
            for index, (width, kernel, _) in reversed(list(enumerate(levels[:-1])))
        )
        self.head = nn.Conv2d(channels[0], num_classes, 1)

    def forward(self, stack: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of a stack (N, image_channels * slices, H, W)."""
        centre = self.slices // 2
        # All slices form one batch in the encoder and are separated again afterwards.
        size = [self.image_channels, self.slices]
        by_channel: Tensor = stack.unflatten(1, size)  # type: ignore[no-untyped-call]
        each_slice = by_channel.transpose(1, 2)
        features = self.stem(each_slice.flatten(0, 1))
        levels = [features.unflatten(0, [-1, self.slices])[:, centre]]
        for block in self.down:
            features = block(features)
            levels.append(features.unflatten(0, [-1, self.slices])[:, centre])
        each = features.unflatten(0, [-1, self.slices]).unbind(1)
        before = self.forwards([each[index] for index in range(centre + 1)])
        after = self.backwards(
            [each[self.slices - 1 - index] for index in range(centre + 1)]
        )
        grown = self.join(torch.cat([before, each[centre], after], dim=1))
        for index, block in enumerate(self.up):
            grown = block(grown, levels[len(levels) - 2 - index])
        logits: Tensor = self.head(grown)
        return logits


def convlstm_unet(order: Order, channels: Sequence[int] | None = None) -> Built:
    """Build a `ConvLSTMUNet` over the slices of a stack."""
    order.only_slices("convlstm_unet")
    ladder, widths = order.ladder(channels)
    spec = order.spec
    network = ConvLSTMUNet(
        spec.image_channels, 2 * spec.context + 1, order.num_classes, ladder, widths
    )
    return network, ladder.total_stride
