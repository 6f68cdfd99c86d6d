"""Choose the device, join several processes, and place the network on its device."""

import ignite.distributed as idist
import torch
from torch import nn

from cellseg3d.models.hardware import find_device
from cellseg3d.models.layout import memory_layout


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of a name, chosen as in prediction.

    Parameters
    ----------
    name : str
        A name for `hardware.find_device`. With several GPUs and processes, ``"auto"``
        gives each process its own GPU.
    """
    if name == "auto" and torch.cuda.is_available():
        name = f"cuda:{idist.get_local_rank()}"
    return find_device(name)


def join_processes() -> int:
    """Join the processes that torchrun has started, and return their number.

    Without torchrun, or if they are joined already, only the number is returned.
    """
    distributed = torch.distributed
    launched = distributed.is_available() and distributed.is_torchelastic_launched()
    if launched and not distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend)
    idist.sync()
    return int(idist.get_world_size())


def leave_processes() -> None:
    """Leave the processes that `join_processes` joined."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def place_network(
    network: nn.Module, device: torch.device | str, *, channels_last: bool = True
) -> nn.Module:
    """Return a network on its device, wrapped if there are several processes.

    Parameters
    ----------
    network : Module
        A network that takes arrays (N, C, ...).
    device : torch.device or str
        Where the network is moved.
    channels_last : bool
        Whether to store the weights channels last, like the input that
        `precision.AutocastInferer` gives the network.
    """
    network = network.to(device)
    if channels_last:
        lay_out(network)
    if idist.get_world_size() == 1:
        return network
    ids = [torch.device(device).index] if torch.device(device).type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=ids)


def lay_out(network: nn.Module) -> None:
    """Store the weights of all convolutions channels last in memory.

    The number of axes of a weight tells whether its convolution is 2D or 3D, since a
    network may hold both.
    """
    for weight in network.parameters():
        if weight.ndim in (4, 5):
            layout = memory_layout(weight.ndim - 2)
            weight.data = weight.data.contiguous(memory_format=layout)
