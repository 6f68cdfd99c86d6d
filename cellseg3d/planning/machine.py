"""Measure the machine's resources and the cost of one training step on it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cellseg3d.bundle.resolve import build
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.memory import available_bytes
from cellseg3d.core.processes import usable_cores
from cellseg3d.training.precision import AutocastInferer
from cellseg3d.training.processes import choose_device, place_network

# Weights, gradients, AdamW's two moments and the averaged weights, as float32.
_BYTES_PER_WEIGHT = 20


@dataclass(frozen=True)
class Machine:
    """The resources available for a training.

    Parameters
    ----------
    cores : int
        Number of cores that this process may use.
    memory_bytes : int
        Free memory in bytes.
    gpu : str or None
        Name of the GPU that ``device: auto`` chooses; None without one.
    gpu_bytes : int
        Free memory of the GPU in bytes; 0 without one.
    """

    cores: int
    memory_bytes: int
    gpu: str | None = None
    gpu_bytes: int = 0

    @property
    def network_bytes(self) -> int:
        """Free memory, in bytes, of the device that the network will run on."""
        return self.gpu_bytes if self.gpu else self.memory_bytes


@dataclass(frozen=True)
class StepCost:
    """The cost of one sample in a training step.

    Parameters
    ----------
    sample_s : float
        Seconds for the forward and the backward pass.
    sample_bytes : int
        Bytes kept from the forward to the backward pass.
    fixed_bytes : int
        Bytes of the weights and of the optimiser's state.
    """

    sample_s: float
    sample_bytes: int
    fixed_bytes: int

    def fits(self, batch: int, machine: Machine) -> bool:
        """Return whether a batch needs at most half of the memory."""
        needed = self.fixed_bytes + batch * self.sample_bytes
        return needed <= machine.network_bytes / 2


def this_machine() -> Machine:
    """Return the resources of this machine that are free now."""
    cores = usable_cores()
    if not torch.cuda.is_available():
        return Machine(cores, available_bytes())
    free, _ = torch.cuda.mem_get_info()
    return Machine(cores, available_bytes(), torch.cuda.get_device_name(), int(free))


def measure_step(
    network_def: Mapping[str, Any],
    spec: InputSpec,
    batch: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> StepCost:
    """Run two training steps on random input and return the cost of the second.

    Parameters
    ----------
    network_def : mapping
        The block ``network_def`` of a bundle's config, as
        `cellseg3d.bundle.resolve.resolve_config` returns it.
    spec : InputSpec
        The network's input, with the patch to measure.
    batch : int
        Number of samples per step.
    clock : callable
        Function that returns seconds.
    """
    device = choose_device()
    state = torch.random.get_rng_state()  # a plan leaves no trace in what follows
    try:
        network = build(network_def, "network_def")
        images = torch.randn(batch, spec.in_channels, *spec.patch_shape)
    finally:
        torch.random.set_rng_state(state)
    network = place_network(network, device).train()
    images = images.to(device)
    kept = _Kept(batch, slices="members" in network_def)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, _same):
        _step(network, images)
    started_s = clock()
    _step(network, images)
    elapsed_s = clock() - started_s
    weights = sum(parameter.numel() for parameter in network.parameters())
    saved = sum(kept.sizes.values()) // batch
    return StepCost(elapsed_s / batch, saved, _BYTES_PER_WEIGHT * weights)


def _step(network: torch.nn.Module, images: Tensor) -> None:
    logits = AutocastInferer()(images, network)
    loss = logits.float().square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    if images.is_cuda:
        torch.cuda.synchronize()


class _Kept:
    """Sizes of the tensors that autograd keeps, counting each storage once."""

    def __init__(self, batch: int, *, slices: bool = False) -> None:
        self.batch = batch
        # Networks that cut a sample into slices keep many of these for each.
        self.slices = slices
        self.sizes: dict[int, int] = {}
        self._held: list[Tensor] = []

    def pack(self, tensor: Tensor) -> Tensor:
        many = self.slices and tensor.ndim == 4 and tensor.shape[0] % self.batch == 0
        if tensor.ndim > 1 and (tensor.shape[0] == self.batch or many):
            storage = tensor.untyped_storage()
            self.sizes[storage.data_ptr()] = storage.nbytes()
            self._held.append(tensor)  # else a later one may get the same address
        return tensor


def _same(tensor: Tensor) -> Tensor:
    return tensor
