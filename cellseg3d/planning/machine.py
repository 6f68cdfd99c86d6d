"""What the machine has, and what one training step costs on it, measured."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cellseg3d.bundle.members import network_of
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.memory import available_bytes
from cellseg3d.core.processes import usable_cores
from cellseg3d.training.precision import AutocastInferer
from cellseg3d.training.processes import choose_device, place_network

# Weights, gradients, the two moments of AdamW and the average, float32.
_BYTES_PER_WEIGHT = 20


@dataclass(frozen=True)
class Machine:
    """Where a training would run.

    Parameters
    ----------
    cores : int
        Those that this process may use.
    memory_bytes : int
        Free memory.
    gpu : str or None
        Name of the GPU that `device: auto` takes.
    gpu_bytes : int
        Its free memory; 0 without one.
    """

    cores: int
    memory_bytes: int
    gpu: str | None = None
    gpu_bytes: int = 0

    @property
    def network_bytes(self) -> int:
        """Memory where the network would be."""
        return self.gpu_bytes if self.gpu else self.memory_bytes


@dataclass(frozen=True)
class StepCost:
    """What one sample of a training step costs.

    Parameters
    ----------
    sample_s : float
        Seconds, forward and backward.
    sample_bytes : int
        Kept from forward to backward.
    fixed_bytes : int
        Weights and what the optimiser keeps for each.
    """

    sample_s: float
    sample_bytes: int
    fixed_bytes: int

    def fits(self, batch: int, machine: Machine) -> bool:
        """Whether a batch takes at most half of the memory; the rest is workspace."""
        needed = self.fixed_bytes + batch * self.sample_bytes
        return needed <= machine.network_bytes / 2


def this_machine() -> Machine:
    """Return what this machine has free now."""
    cores = usable_cores()
    if not torch.cuda.is_available():
        return Machine(cores, available_bytes())
    free, _ = torch.cuda.mem_get_info()
    return Machine(cores, available_bytes(), torch.cuda.get_device_name(), int(free))


def measure_step(
    network_def: Mapping[str, Any],
    spec: InputSpec,
    facts: ModelFacts,
    batch: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> StepCost:
    """Run two training steps on noise and return what the second one costs.

    Parameters
    ----------
    network_def : mapping
        The block of that name in a bundle's config.
    spec : InputSpec
        With the patch to measure.
    facts : ModelFacts
    batch : int
        Samples in the steps.
    clock : callable
        Returns seconds.
    """
    device = choose_device()
    state = torch.random.get_rng_state()  # a plan leaves no trace in what follows
    try:
        network = network_of(network_def, spec, facts)
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
    """Sizes of what autograd keeps of a batch, each storage once, weights left out."""

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
