"""Build MONAI's U-Nets from one description, with adapted norms and strides."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from cellseg3d.core.errors import ConfigError
from cellseg3d.models.ladder import Ladder, build_ladder
from cellseg3d.models.network_arguments import NETWORK_ARGUMENTS
from cellseg3d.models.order import Built, Order, norm_name, unknown


def unet(
    order: Order,
    channels: Sequence[int] | None = None,
    strides: Sequence[int | Sequence[int]] | None = None,
    num_res_units: int = 2,
    norm: str = "batch",
    **rest: Any,  # noqa: ANN401
) -> Built:
    """Build MONAI's UNet. Only its strides adapt, since all levels share one kernel."""
    from monai.networks.nets.unet import UNet  # noqa: PLC0415 - seconds to import

    ladder, widths = order.ladder(channels)
    steps = [tuple(stride) for stride in ladder.strides[1:]]
    if strides is not None:
        steps = [_per_axis(stride, order.spec.spatial_dims) for stride in strides]
        if len(steps) != len(widths) - 1:
            message = (
                f"unet: {len(steps)} strides for {len(widths)} channels; expected "
                f"{len(widths) - 1}"
            )
            raise ConfigError(message)
    _check(UNet, "unet", rest)
    network = UNet(
        **order.common(),
        channels=widths,
        strides=steps,  # type: ignore[arg-type]  # one an axis works too
        num_res_units=num_res_units,
        norm=norm_name(norm),
        **rest,
    )
    return network, _product(steps)


def basic_unet(
    order: Order,
    features: Sequence[int] = (32, 32, 64, 128, 256, 32),
    norm: str = "batch",
    **rest: Any,  # noqa: ANN401
) -> Built:
    """Build MONAI's BasicUNet, which halves every axis four times for any spacing."""
    from monai.networks.nets.basic_unet import BasicUNet  # noqa: PLC0415

    _check(BasicUNet, "basic_unet", rest)
    affine = (norm_name(norm), {"affine": True})
    network = BasicUNet(**order.common(), features=features, norm=affine, **rest)
    return network, [16] * order.spec.spatial_dims


def unet31m(order: Order, norm: str = "batch", **rest: Any) -> Built:  # noqa: ANN401
    """Build the original U-Net with 64 to 1024 channels, padded to keep the size."""
    features = (64, 128, 256, 512, 1024, 64)
    return basic_unet(order, features, norm, **{"act": "relu", **rest})


def dynunet(
    order: Order,
    filters: Sequence[int] | None = None,
    norm: str = "batch",
    **rest: Any,  # noqa: ANN401
) -> Built:
    """Build MONAI's DynUNet as nnU-Net does; kernels and strides adapt to spacing."""
    from monai.networks.nets.dynunet import DynUNet  # noqa: PLC0415

    dims = order.spec.spatial_dims
    levels = len(filters) if filters is not None else None
    ladder = build_ladder(order.spec, order.spacing_um, levels)
    if len(ladder.strides) < 3:
        ladder = build_ladder(order.spec, order.spacing_um, 3)
    cap = 320 if dims == 3 else 512
    widths = [min(32 * 2**level, cap) for level in range(len(ladder.strides))]
    _check(DynUNet, "dynunet", rest)
    network = DynUNet(
        **order.common(),
        kernel_size=ladder.kernels,
        strides=ladder.strides,
        upsample_kernel_size=ladder.strides[1:],
        filters=tuple(filters or widths),
        norm_name=(norm_name(norm), {"affine": True}),
        **rest,
    )
    return network, ladder.total_stride


def segresnet(
    order: Order,
    init_filters: int = 16,
    norm: str = "batch",
    blocks_down: Sequence[int] = (1, 2, 2, 4),
    blocks_up: Sequence[int] = (1, 1, 1),
    **rest: Any,  # noqa: ANN401
) -> Built:
    """Build MONAI's SegResNet, which halves all axes alike for any spacing."""
    from monai.networks.nets.segresnet import SegResNet  # noqa: PLC0415

    _check(SegResNet, "segresnet", rest)
    network = SegResNet(
        **order.common(),
        init_filters=init_filters,
        norm=norm_name(norm),
        blocks_down=tuple(blocks_down),
        blocks_up=tuple(blocks_up),
        **rest,
    )
    return network, [2 ** (len(blocks_down) - 1)] * order.spec.spatial_dims


def attention_unet(
    order: Order,
    channels: Sequence[int] | None = None,
    norm: str = "batch",
    **rest: Any,  # noqa: ANN401
) -> Built:
    """Build MONAI's AttentionUnet; its strides adapt to the spacing."""
    from monai.networks.nets.attentionunet import AttentionUnet  # noqa: PLC0415

    ladder, widths = order.ladder(channels)
    _check(AttentionUnet, "attention_unet", rest)
    network = AttentionUnet(
        **order.common(),
        channels=widths,
        strides=ladder.strides[1:],  # type: ignore[arg-type]
        **rest,
    )
    # MONAI fixes the norms: batch in some blocks, instance in others.
    return _with_norm(network, norm_name(norm)), ladder.total_stride


def flexible(
    order: Order,
    backbone: str = "resnet10",
    norm: str = "batch",
    **rest: Any,  # noqa: ANN401
) -> Built:
    """Build MONAI's FlexibleUNet with a ResNet or EfficientNet encoder; stride 32.

    The backbones ``resnet18`` and ``resnet34`` cannot be scripted, only traced.
    """
    from monai.networks.nets.flexible_unet import FlexibleUNet  # noqa: PLC0415

    _check(FlexibleUNet, "flexible", rest)
    network = FlexibleUNet(**order.common(), backbone=backbone, **rest)
    dims = order.spec.spatial_dims
    return _with_norm(network, norm_name(norm)), [32] * dims


def any_monai(
    order: Order,
    class_name: str,
    total_stride: int | Sequence[int] = 32,
    **rest: Any,  # noqa: ANN401
) -> Built:
    """Build a listed network class of MONAI that takes dimensions and channels."""
    from monai.networks import nets  # noqa: PLC0415

    if class_name not in NETWORK_ARGUMENTS:
        raise ConfigError(unknown("network of MONAI", class_name, [*NETWORK_ARGUMENTS]))
    target = getattr(nets, class_name)
    _check(target, f"monai.{class_name}", rest)
    network = target(**{**order.common(), **rest})
    return network, _per_axis(total_stride, order.spec.spatial_dims)


def _check(target: type[nn.Module], name: str, options: Mapping[str, Any]) -> None:
    """Raise an error if a config may not give the MONAI class one of the options."""
    known = sorted(NETWORK_ARGUMENTS[target.__name__])
    for option in options:
        if option not in known:
            raise ConfigError(unknown(f"{name}: option", option, known))


def _with_norm(network: nn.Module, norm: str) -> nn.Module:
    """Replace every batch or instance normalisation by the requested kind."""
    batch = (nn.BatchNorm2d, nn.BatchNorm3d)
    instance = (nn.InstanceNorm2d, nn.InstanceNorm3d)
    unwanted, wanted = (instance, batch) if norm == "batch" else (batch, instance)
    for module in list(network.modules()):
        for key, child in list(module.named_children()):
            if isinstance(child, unwanted):
                kind = wanted[isinstance(child, unwanted[1])]
                setattr(module, key, kind(child.num_features, affine=True))
    return network


def _per_axis(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(map(int, value))


def _product(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return Ladder((), tuple(tuple(stride) for stride in strides)).total_stride
