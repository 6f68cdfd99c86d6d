"""Build the network for an input spec: one of this package, or MONAI's by name."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.models import monai_nets
from cellseg3d.models.order import Built, Order, norm_name, unknown
from cellseg3d.models.padded import PaddedNetwork
from cellseg3d.models.recipes.cascade import CLASSES, Cascade
from cellseg3d.models.recipes.convlstm import convlstm_unet
from cellseg3d.models.recipes.googlenet import googlenet_fcn
from cellseg3d.models.recipes.vgg import vgg16_unet
from cellseg3d.models.residual import ResidualUNet

# Few channels at the two finest levels: on a CPU, more steps help more than width.
_HOUSE_CHANNELS = (16, 16, 32, 64, 128, 256)


def build_network(
    name: str,
    spec: InputSpec | dict[str, Any],
    num_classes: int,
    spacing_um: Sequence[float] | Spacing | None = None,
    **options: Any,  # noqa: ANN401 - each network has its own
) -> nn.Module:
    """Return a network that takes what `spec` describes, of any spatial size.

    The input is (N, spec.in_channels, ...), float; the output is logits
    (N, num_classes, ...) of the same size. Batch normalisation is the default: its
    statistics are fixed in prediction, so the result for a voxel depends only on its
    receptive field and not on the window.

    Parameters
    ----------
    name : str
        ``"residual_unet"`` (the default of the bundles), ``"unet"``, ``"basic_unet"``,
        ``"unet31m"``, ``"dynunet"``, ``"segresnet"``, ``"attention_unet"``,
        ``"flexible"``, ``"vgg16_unet"``, ``"googlenet_fcn"``, ``"convlstm_unet"``,
        ``"cascade"`` (two networks of the kind that the option ``stage`` names), or
        ``"monai.CLASS"`` for another class of ``monai.networks.nets`` that
        `cellseg3d.models.network_arguments` lists.
    spec : InputSpec or dict
    num_classes : int
        Number of classes, background included; at least 2.
    spacing_um : three floats (z, y, x), optional
        Voxel edges in um. They determine anisotropic kernels and strides, where the
        network can have them.
    **options
        Options of the network, such as ``channels``, ``norm`` (``"batch"`` or
        ``"instance"``) or ``dropout``; see the network's own parameters.

    Raises
    ------
    ConfigError
        If the name or an option is unknown, or the numbers do not fit.
    """
    spec = InputSpec.parse(spec)
    if num_classes < 2:
        message = (
            f"num_classes is {num_classes}; expected at least 2 (background counts)"
        )
        raise ConfigError(message)
    builders = _builders()
    kind, _, monai_class = name.partition("monai.")
    if not kind and monai_class:
        options["class_name"], name = monai_class, "monai"
    if name not in builders:
        known = sorted(set(builders) - {"monai"})
        raise ConfigError(unknown("network", name, known))
    order = Order(spec, int(num_classes), spacing_um, dict(options))
    network, total_stride = _call(builders[name], name, order)
    return PaddedNetwork(network, total_stride, spec.in_channels, num_classes)


def _builders() -> dict[str, Callable[..., Built]]:
    return {
        "residual_unet": _residual_unet,
        "unet": monai_nets.unet,
        "basic_unet": monai_nets.basic_unet,
        "unet31m": monai_nets.unet31m,
        "dynunet": monai_nets.dynunet,
        "segresnet": monai_nets.segresnet,
        "attention_unet": monai_nets.attention_unet,
        "flexible": monai_nets.flexible,
        "vgg16_unet": vgg16_unet,
        "googlenet_fcn": googlenet_fcn,
        "convlstm_unet": convlstm_unet,
        "cascade": _cascade,
        "monai": monai_nets.any_monai,
    }


def _call(builder: Callable[..., Built], name: str, order: Order) -> Built:
    """Call a builder with the options; refuse options that it does not know."""
    parameters = inspect.signature(builder).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [key for key in parameters if key not in {"order", "rest"}]
    for option in order.options:
        if not takes_any and option not in known:
            raise ConfigError(unknown(f"{name}: option", option, known))
    try:
        return builder(order, **order.options)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        cause = str(error).strip().splitlines()[0] if str(error) else repr(error)
        message = f"network {name}: {cause}; check its options {order.options}"
        raise ConfigError(message) from error


def _residual_unet(
    order: Order,
    channels: Sequence[int] | None = None,
    norm: str = "batch",
    deep_supervision: int = 0,
) -> Built:
    ladder, widths = order.ladder(channels, _HOUSE_CHANNELS)
    network = ResidualUNet(
        order.spec.in_channels,
        order.num_classes,
        ladder,
        widths,
        norm=norm_name(norm),
        deep_supervision=deep_supervision,
    )
    return network, ladder.total_stride


def _cascade(
    order: Order,
    stage: str = "vgg16_unet",
    outside: float = -1.0,
    **rest: Any,  # noqa: ANN401
) -> Built:
    """Build a `cascade.Cascade` of two networks of one kind, each with one output."""
    if order.num_classes != CLASSES:
        message = (
            f"cascade: the data set has {order.num_classes} classes; expected "
            f"{CLASSES}, background, cytoplasm and nucleus: map the others in the "
            "datalist's label_map"
        )
        raise ConfigError(message)
    builders = {key: value for key, value in _builders().items() if key != "cascade"}
    if stage not in builders:
        raise ConfigError(unknown("cascade: stage", stage, sorted(builders)))
    inner = replace(order, num_classes=1, options=rest)
    one, stride = _call(builders[stage], stage, inner)
    two, _ = _call(builders[stage], stage, inner)
    return Cascade(one, two, outside), stride
