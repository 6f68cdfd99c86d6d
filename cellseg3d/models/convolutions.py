"""The layers that count as convolutions, in 2 and in 3 dimensions."""

from torch import nn

CONVS = (nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
