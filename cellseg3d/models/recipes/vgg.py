"""A U-Net whose encoder is VGG-16, with torchvision's parameter names."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cellseg3d.models.order import Built, Order
from cellseg3d.models.residual import ConvBlock

# Channels of the convolutions of each block; every block ends in a pooling by 2.
BLOCKS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
_DECODER = (256, 256, 128, 64, 32)


class VGG16UNet(nn.Module):
    """VGG-16's convolutions [1]_ as encoder, five up-sampling blocks as decoder.

    The decoder also gets the features of blocks 2, 3 and 4 after pooling. The encoder
    is ``features`` of torchvision's ``vgg16``, with the same parameter names.

    Parameters
    ----------
    in_channels, num_classes : int

    References
    ----------
    .. [1] Simonyan and Zisserman 2015, ICLR, arXiv:1409.1556
    """

    # Start of the name and SHA-256 of torchvision's published weights.
    imagenet_prefixes = ("features.",)
    imagenet_ignored = ("classifier.",)
    imagenet_stem = "features.0.weight"
    imagenet_file = "vgg16-397923af.pth"

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        # Index of the layer that ends each block.
        self.ends: list[int] = []
        width = in_channels
        for block in BLOCKS:
            for block_width in block:
                layers.append(nn.Conv2d(width, block_width, 3, padding=1))
                layers.append(nn.ReLU(inplace=True))
                width = block_width
            layers.append(nn.MaxPool2d(2))
            self.ends.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        skips = (BLOCKS[3][-1], BLOCKS[2][-1], BLOCKS[1][-1], 0, 0)
        blocks = []
        for skip, block_width in zip(skips, _DECODER, strict=True):
            blocks.append(ConvBlock(width + skip, block_width, (3, 3), "batch"))
            width = block_width
        self.decoder = nn.ModuleList(blocks)
        self.head = nn.Conv2d(width, num_classes, 1)
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of an image (N, C, H, W) of multiples of 32."""
        pooled: list[Tensor] = []
        features = image
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in self.ends:
                pooled.append(features)
        for index, block in enumerate(self.decoder):
            features = functional.interpolate(
                features, scale_factor=2.0, mode="nearest"
            )
            if index < 3:
                features = torch.cat([features, pooled[3 - index]], dim=1)
            features = block(features)
        logits: Tensor = self.head(features)
        return logits


def vgg16_unet(order: Order) -> Built:
    """Build a `VGG16UNet`; ImageNet's weights come from `imagenet.load_imagenet`."""
    order.only_slices("vgg16_unet")
    return VGG16UNet(order.spec.in_channels, order.num_classes), (32, 32)
