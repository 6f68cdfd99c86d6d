"""One process or several: start them, wrap the network, find the device."""

import ignite.distributed as idist
import torch
from torch import nn

from cellseg3d.models.hardware import find_device
from cellseg3d.models.layout import memory_layout


def choose_device(name: str = "auto") -> torch.device:
    """Return the device that a name asks for, as prediction finds it.

    Parameters
    ----------
    name : str
        See `hardware.find_device`; of several GPUs ``"auto"`` takes this process' own.
    """
    if name == "auto" and torch.cuda.is_available():
        name = f"cuda:{idist.get_local_rank()}"
    return find_device(name)


def join_processes() -> int:
    """Join the processes that torchrun has started; return how many there are.

    Nothing happens without torchrun, or when they have been joined already.
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
    """Return a network on its device, laid out for it, wrapped for several processes.

    Parameters
    ----------
    network : Module
        Takes (N, C, ...).
    device : torch.device or str
    channels_last : bool
        Lay the weights out as `precision.AutocastInferer` lays out its input.
    """
    network = network.to(device)
    if channels_last:
        lay_out(network)
    if idist.get_world_size() == 1:
        return network
    ids = [torch.device(device).index] if torch.device(device).type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=ids)


def lay_out(network: nn.Module) -> None:
    """Lay the weights of convolutions out channels last, each for its own dimensions.

    A weight has two axes more than its image; some networks hold 2D and 3D ones.
    """
    for weight in network.parameters():
        if weight.ndim in (4, 5):
            layout = memory_layout(weight.ndim - 2)
            weight.data = weight.data.contiguous(memory_format=layout)
