"""The default U-Net: residual blocks, few channels at full resolution, fast on CPUs."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cellseg3d.models.ladder import Ladder

Sizes = tuple[int, ...]
_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE: dict[int, Any] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def normalisation(kind: str, width: int, dims: int) -> nn.Module:
    """Return a batch or instance normalisation layer with learned scale and shift."""
    if kind == "batch":
        return cast(nn.Module, _BATCH[dims](width))
    return cast(nn.Module, _INSTANCE[dims](width, affine=True))


def convolution(
    width_in: int, width_out: int, kernel: Sizes, stride: Sizes | None = None
) -> nn.Module:
    """Return a convolution without bias that keeps the size, divided by the stride."""
    dims = len(kernel)
    layer: nn.Module = _CONV[dims](
        width_in,
        width_out,
        kernel,
        stride=stride or (1,) * dims,
        padding=tuple(size // 2 for size in kernel),
        bias=False,
    )
    return layer


class ResidualBlock(nn.Module):
    """Two convolutions with a skip connection [1]_; the first may have a stride.

    References
    ----------
    .. [1] He et al. 2016, CVPR, doi:10.1109/CVPR.2016.90
    """

    def __init__(
        self, width_in: int, width_out: int, kernel: Sizes, stride: Sizes, norm: str
    ) -> None:
        super().__init__()
        dims = len(kernel)
        # A kernel smaller than its stride would skip voxels.
        first = tuple(
            max(k, 3 if s > 1 else 1) for k, s in zip(kernel, stride, strict=True)
        )
        self.first = convolution(width_in, width_out, first, stride)
        self.first_norm = normalisation(norm, width_out, dims)
        self.second = convolution(width_out, width_out, kernel)
        self.second_norm = normalisation(norm, width_out, dims)
        self.around: nn.Module = nn.Identity()
        if width_in != width_out or max(stride) > 1:
            self.around = nn.Sequential(
                convolution(width_in, width_out, (1,) * dims, stride),
                normalisation(norm, width_out, dims),
            )

    def forward(self, image: Tensor) -> Tensor:
        """Return features (N, width_out, ...), reduced in size by the stride."""
        inner = functional.relu(self.first_norm(self.first(image)), inplace=True)
        inner = self.second_norm(self.second(inner))
        return functional.relu(inner + self.around(image), inplace=True)


class ConvBlock(nn.Sequential):
    """One convolution, its normalisation and a ReLU."""

    def __init__(self, width_in: int, width_out: int, kernel: Sizes, norm: str) -> None:
        super().__init__(
            convolution(width_in, width_out, kernel),
            normalisation(norm, width_out, len(kernel)),
            nn.ReLU(inplace=True),
        )


class UpBlock(nn.Module):
    """Up-sample features, concatenate those of the encoder, and convolve them.

    Parameters
    ----------
    width_in, width_out : int
        Channels of the coarse features; of the fine features and of the output.
    kernel, stride : tuple of int
        Kernel of the finer level; stride between the two levels.
    norm : {"batch", "instance"}
    light : bool
        Whether to use one convolution instead of a residual block.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        kernel: Sizes,
        stride: Sizes,
        norm: str,
        *,
        light: bool = False,
    ) -> None:
        super().__init__()
        dims = len(kernel)
        self.grow = _TRANSPOSED[dims](
            width_in, width_out, stride, stride=stride, bias=False
        )
        self.grow_norm = normalisation(norm, width_out, dims)
        self.refine: nn.Module
        if light:
            self.refine = ConvBlock(2 * width_out, width_out, kernel, norm)
        else:
            ones = (1,) * dims
            self.refine = ResidualBlock(2 * width_out, width_out, kernel, ones, norm)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return features of the finer size (N, width_out, ...)."""
        grown = functional.relu(self.grow_norm(self.grow(coarse)), inplace=True)
        refined: Tensor = self.refine(torch.cat([grown, fine], dim=1))
        return refined


class ResidualUNet(nn.Module):
    """A U-Net [1]_ of residual blocks with little computation at full resolution.

    Every convolution is followed by a normalisation, so that both can be merged for
    prediction, and has a multiple of 16 channels, for which bfloat16 is fastest. The
    full resolution is the most expensive, so it has one convolution in the encoder and
    one in the decoder.

    Parameters
    ----------
    in_channels, num_classes : int
    ladder : Ladder
        Kernels and strides of the levels.
    channels : sequence of int
        Number of channels of each level.
    norm : {"batch", "instance"}
    deep_supervision : int
        Number of extra outputs in training, from as many levels below the first. All
        are returned at full size in one tensor (N, 1 + number, K, ...).

    References
    ----------
    .. [1] Ronneberger et al. 2015, MICCAI, doi:10.1007/978-3-319-24574-4_28
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        ladder: Ladder,
        channels: Sequence[int],
        *,
        norm: str = "batch",
        deep_supervision: int = 0,
    ) -> None:
        super().__init__()
        dims = len(ladder.kernels[0])
        levels = list(zip(channels, ladder.kernels, ladder.strides, strict=True))
        self.stem = ConvBlock(in_channels, channels[0], ladder.kernels[0], norm)
        self.down = nn.ModuleList(
            ResidualBlock(channels[index], width, kernel, stride, norm)
            for index, (width, kernel, stride) in enumerate(levels[1:])
        )
        self.up = nn.ModuleList(
            UpBlock(
                channels[index + 1],
                width,
                kernel,
                ladder.strides[index + 1],
                norm,
                light=index == 0,
            )
            for index, (width, kernel, _) in reversed(list(enumerate(levels[:-1])))
        )
        self.head = _CONV[dims](channels[0], num_classes, 1)
        # Starts at the second finest level.
        self.side_heads = nn.ModuleList(
            _CONV[dims](width, num_classes, 1)
            for width in channels[1 : 1 + deep_supervision]
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, ...); in training with extra outputs, stacked ones."""
        features = self.stem(image)
        levels: list[Tensor] = [features]
        for block in self.down:
            features = block(features)
            levels.append(features)
        grown: list[Tensor] = [features]
        for index, block in enumerate(self.up):
            features = block(features, levels[len(levels) - 2 - index])
            grown.append(features)
        logits: Tensor = self.head(features)
        if not self.training or len(self.side_heads) == 0:
            return logits
        outputs = [logits]
        for index, head in enumerate(self.side_heads):
            side: Tensor = head(grown[len(grown) - 2 - index])
            outputs.append(functional.interpolate(side, size=logits.shape[2:]))
        return torch.stack(outputs, dim=1)
