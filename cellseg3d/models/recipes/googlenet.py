"""A fully convolutional GoogLeNet, with torchvision's parameter names."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from cellseg3d.core.errors import ConfigError
from cellseg3d.models.order import Built, Order

# Channels of each module, from table 1 of the paper: input; 1 x 1 branch; two 3 x 3
# branches, each first narrow, then wide; pooled branch.
_INCEPTION = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}
# Channels and stride at the end of each stage.
_STAGES = {3: (480, 8), 4: (832, 16), 5: (1024, 32)}


class _Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU; named as torchvision names them."""

    def __init__(
        self, width_in: int, width_out: int, kernel: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            width_in, width_out, kernel, stride, padding=kernel // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(width_out, eps=0.001)

    def forward(self, image: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(image)), inplace=True)


class _Inception(nn.Module):
    """Four parallel branches; the third has 3 x 3 kernels, as in torchvision."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        width_in, one, narrow_2, wide_2, narrow_3, wide_3, pooled = widths
        self.branch1 = _Convolution(width_in, one, 1)
        self.branch2 = nn.Sequential(
            _Convolution(width_in, narrow_2, 1), _Convolution(narrow_2, wide_2, 3)
        )
        self.branch3 = nn.Sequential(
            _Convolution(width_in, narrow_3, 1), _Convolution(narrow_3, wide_3, 3)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), _Convolution(width_in, pooled, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        branches = [
            self.branch1(image),
            self.branch2(image),
            self.branch3(image),
            self.branch4(image),
        ]
        return torch.cat(branches, dim=1)


class GoogLeNetFCN(nn.Module):
    """GoogLeNet [1]_ with one transposed convolution to full size as classifier [2]_.

    Parameters
    ----------
    in_channels, num_classes : int
    last_stage : {3, 4, 5}
        The last stage to use; the stride is 8, 16 or 32 there.

    References
    ----------
    .. [1] Szegedy et al. 2015, CVPR, doi:10.1109/CVPR.2015.7298594
    .. [2] Long et al. 2015, CVPR, doi:10.1109/CVPR.2015.7298965
    """

    imagenet_prefixes = ("conv", "inception")
    # Stages that are not used, and the classifiers.
    imagenet_ignored = ("aux", "fc.", "inception4", "inception5")
    imagenet_stem = "conv1.conv.weight"
    imagenet_file = "googlenet-1378be20.pth"

    # TorchScript allows no annotation of a module here.
    if TYPE_CHECKING:
        inception3a: nn.Module
        inception3b: nn.Module
        inception4a: nn.Module
        inception4b: nn.Module
        inception4c: nn.Module
        inception4d: nn.Module
        inception4e: nn.Module
        inception5a: nn.Module
        inception5b: nn.Module

    def __init__(self, in_channels: int, num_classes: int, last_stage: int = 5) -> None:
        super().__init__()
        self.last_stage = last_stage
        self.conv1 = _Convolution(in_channels, 64, 7, 2)
        self.conv2 = _Convolution(64, 64, 1)
        self.conv3 = _Convolution(64, 192, 3)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.last_pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        for name, widths in _INCEPTION.items():
            wanted = int(name[0]) <= last_stage
            module = _Inception(widths) if wanted else nn.Identity()
            self.add_module(f"inception{name}", module)
        width, stride = _STAGES[last_stage]
        self.grow = nn.ConvTranspose2d(
            width, num_classes, 2 * stride, stride=stride, padding=stride // 2
        )
        _begin_smooth(self.grow, stride)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, H, W); H and W are multiples of the stride."""
        features = self.pool(self.conv1(image))
        features = self.pool(self.conv3(self.conv2(features)))
        features = self.inception3b(self.inception3a(features))
        if self.last_stage > 3:
            features = self.inception4b(self.inception4a(self.pool(features)))
            features = self.inception4d(self.inception4c(features))
            features = self.inception4e(features)
        if self.last_stage > 4:
            features = self.inception5b(self.inception5a(self.last_pool(features)))
        logits: Tensor = self.grow(features)
        return logits


def _begin_smooth(grow: nn.ConvTranspose2d, stride: int) -> None:
    """Start a transposed convolution as an interpolation, as in [2]_ above.

    Random kernels of 32 x 32 would start with noise at every pixel, which takes
    hundreds of steps to unlearn.
    """
    ramp = 1 - (torch.arange(2 * stride) + 0.5 - stride).abs() / stride
    with torch.no_grad():
        share = torch.randn(*grow.weight.shape[:2], 1, 1) / grow.weight.shape[0] ** 0.5
        grow.weight.copy_(share * ramp[:, None] * ramp)


def googlenet_fcn(order: Order, last_stage: int = 5) -> Built:
    """Build a `GoogLeNetFCN`; ImageNet's weights come from `imagenet.load_imagenet`."""
    order.only_slices("googlenet_fcn")
    if last_stage not in _STAGES:
        message = f"googlenet_fcn: last_stage is {last_stage}; expected 3, 4 or 5"
        raise ConfigError(message)
    network = GoogLeNetFCN(order.spec.in_channels, order.num_classes, last_stage)
    return network, (_STAGES[last_stage][1],) * 2
