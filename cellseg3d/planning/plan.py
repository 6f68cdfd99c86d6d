"""Choose the settings of a training from the data and the machine, with reasons."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cellseg3d.bundle.compose import Config
from cellseg3d.bundle.model_facts import ModelFacts, spec_for
from cellseg3d.bundle.resolve import resolve_config
from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.core.axes import Axis, axis_index
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.planning.machine import Machine, StepCost, measure_step
from cellseg3d.planning.survey import Survey
from cellseg3d.runs.patch import choose_axis, choose_patch

Kind = Literal["2D", "2.5D", "3D"]
BUNDLES: dict[Kind, str] = {
    "2D": "cell_tomo_unet2d",
    "2.5D": "cell_tomo_unet25d",
    "3D": "cell_tomo_unet3d",
}
# A stack has at most this many slices per side; slices further away add little.
MOST_CONTEXT = 3
STEPS_PER_EPOCH = 50
# How often each annotated voxel is drawn, within the limits on the number of steps.
PASSES = 20
LEAST_STEPS = 1000
MOST_STEPS = {"cpu": 5000, "gpu": 25000}
# Fewest steps that a training should have. If the time is short, patches shrink to
# reach it, down to a sixteenth of their voxels.
FEWEST_STEPS = 300
LEAST_SHARE = 1 / 16
# Largest number of samples per step, even if more would fit into memory.
MOST_BATCH: dict[Kind, int] = {"2D": 32, "2.5D": 32, "3D": 8}

Measure = Callable[[Mapping[str, Any], InputSpec, int], StepCost]


@dataclass(frozen=True)
class Choice:
    """One setting of a training and the reason for it."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """The settings of one training.

    Parameters
    ----------
    kind : {"2D", "2.5D", "3D"}
    bundle : str
        The bundle that the settings are for.
    choices : tuple of Choice
    steps : int
        Number of steps of the whole training.
    minutes : float
        Expected duration on this machine, without validation.
    gib : float
        Memory that the network needs for a step.
    advice : str
        A sentence that says whether to begin with this plan.
    """

    kind: Kind
    bundle: str
    choices: tuple[Choice, ...]
    steps: int
    minutes: float
    gib: float
    advice: str

    @property
    def settings(self) -> dict[str, Any]:
        """Config keys and their values."""
        return {choice.key: choice.value for choice in self.choices}


def make_plans(
    facts: ModelFacts,
    data: Survey,
    machine: Machine,
    measure: Measure = measure_step,
    kinds: Sequence[Kind] = tuple(BUNDLES),
    minutes: float | None = None,
) -> list[Plan]:
    """Return one plan for each of 2D, 2.5D and 3D, or for the given kinds.

    Parameters
    ----------
    facts : ModelFacts
        Classes and spacing of the data.
    data : Survey
    machine : Machine
    measure : callable
        Function that returns the cost of a training step.
    kinds : sequence of {"2D", "2.5D", "3D"}
    minutes : float, optional
        Time available for the training; a short time gives smaller patches.
    """
    return [_plan(kind, facts, data, machine, measure, minutes) for kind in kinds]


def choose_context(data: Survey, axis: Axis) -> tuple[int, str]:
    """Return the number of slices on each side of a stack's centre, and the reason."""
    smallest = _smallest(data)
    step = data.edges[axis_index(axis)]
    if not math.isfinite(smallest):
        return 1, "no object was found to measure, so the least"
    wanted = smallest / step / 4
    chosen = min(MOST_CONTEXT, max(1, round(wanted)))
    return chosen, (
        f"the smallest class is {smallest:.3g} {data.unit} across = "
        f"{smallest / step:.1f} slices; a stack spans about half of that, and at "
        f"most {2 * MOST_CONTEXT + 1} slices"
    )


def choose_foreground(data: Survey) -> tuple[float, str]:
    """Return the share of samples to centre on an object, and the reason."""
    share = data.foreground
    if share >= 0.5:
        chosen, why = 0.33, "common: most samples hold it anyway"
    elif share >= 0.05:
        chosen, why = 0.5, "neither rare nor common"
    else:
        chosen, why = 0.67, "rare: most random samples would miss it"
    return chosen, f"foreground is {share:.1%} of the annotated voxels, {why}"


def choose_workers(machine: Machine) -> tuple[int, str]:
    """Return the number of processes that prepare samples, and the reason."""
    if machine.gpu:
        chosen = min(8, max(1, machine.cores // 2))
        return chosen, f"half of {machine.cores} cores feed the GPU"
    if machine.cores <= 4:
        return 0, f"the network needs all {machine.cores} cores"
    chosen = min(4, machine.cores // 4)
    return chosen, f"a quarter of {machine.cores} cores; the network has the rest"


def _plan(
    kind: Kind,
    facts: ModelFacts,
    data: Survey,
    machine: Machine,
    measure: Measure,
    given: float | None,
) -> Plan:
    config = resolve_config(_file(kind))
    config["spec"] = asdict(spec_for(config["spec"], facts))
    spec, choices = _input(kind, config, data)
    usual = int(config["train"]["dataloader"]["batch_size"])
    cost = measure(_network(kind, spec, facts), spec, usual)
    batch, why_batch = _batch(kind, usual, cost, machine)
    fitting = math.inf if given is None else 60 * given / (batch * cost.sample_s)
    if fitting < FEWEST_STEPS:
        share = max(LEAST_SHARE, fitting / FEWEST_STEPS)
        spec, choices = _input(kind, config, data, share)
        cost = measure(_network(kind, spec, facts), spec, batch)
    share, why_share = choose_foreground(data)
    workers, why_workers = choose_workers(machine)
    epochs, why_epochs = _epochs(spec, batch, data, machine)
    steps, samples = epochs * STEPS_PER_EPOCH, STEPS_PER_EPOCH * batch
    choices += [
        Choice("train::dataloader::batch_size", batch, why_batch),
        Choice("train::dataset::foreground", share, why_share),
        Choice("train::dataset::samples", samples, f"{STEPS_PER_EPOCH} steps an epoch"),
        Choice("epochs", epochs, why_epochs),
        Choice("train::dataloader::workers", workers, why_workers),
    ]
    return Plan(
        kind,
        BUNDLES[kind],
        tuple(choices),
        steps,
        steps * batch * cost.sample_s / 60,
        (cost.fixed_bytes + batch * cost.sample_bytes) / 2**30,
        _advice(kind, data),
    )


def _file(kind: Kind) -> Path:
    return find_bundle(BUNDLES[kind]) / "configs" / "train.json"


def _network(kind: Kind, spec: InputSpec, facts: ModelFacts) -> Config:
    """Return what describes the bundle's network for this input and these classes."""
    settings = {"spec": asdict(spec), "facts": facts.as_dict()}
    only = ("network_def",)
    return dict(resolve_config(_file(kind), settings, only=only)["network_def"])


def _input(
    kind: Kind, config: Config, data: Survey, share: float = 1.0
) -> tuple[InputSpec, list[Choice]]:
    """Return the network's input, and the choices made for it."""
    spec = InputSpec.parse(config["spec"])
    choices = []
    edges = data.spacing.zyx if data.spacing else None
    if kind != "3D":
        axis, why = choose_axis(data.shapes, edges)
        spec = replace(spec, axis=axis)
        choices.append(Choice("spec::axis", axis, why))
    if kind == "2.5D":
        context, why = choose_context(data, spec.axis)
        spec = replace(spec, context=context)
        choices.append(Choice("spec::context", context, why))
    patch = choose_patch(spec, data.shapes, edges, share)
    spec = replace(spec, patch_shape=patch)
    why = _why_patch(spec, data)
    if share < 1:
        why += f"; smaller than usual, for {FEWEST_STEPS} steps in the time there is"
    choices.append(Choice("spec::patch_shape", list(patch), why))
    return spec, choices


def _why_patch(spec: InputSpec, data: Survey) -> str:
    sides = [
        f"{n * edge:.3g}" for n, edge in zip(spec.patch_zyx(), data.edges, strict=True)
    ]
    smallest = [min(shape[axis] for shape in data.shapes) for axis in range(3)]
    largest = max((c.diameter for c in data.classes if c.objects), default=math.nan)
    reason = (
        f"{' x '.join(sides)} {data.unit} (z, y, x); fits the smallest volume, "
        f"{' x '.join(map(str, smallest))} voxels"
    )
    if data.spacing is None and spec.spatial_dims == 3:
        reason += "; voxels count as cubes, since their edges are unknown"
    if math.isnan(largest):
        return reason
    return f"{reason}; the largest class is {largest:.3g} {data.unit} across"


def _batch(kind: Kind, usual: int, cost: StepCost, machine: Machine) -> tuple[int, str]:
    """Return the batch size: larger on a GPU, smaller if memory is short."""
    batch = usual
    if machine.gpu:
        while batch < MOST_BATCH[kind] and cost.fits(2 * batch, machine):
            batch *= 2
    while batch > 1 and not cost.fits(batch, machine):
        batch //= 2
    gib = (cost.fixed_bytes + batch * cost.sample_bytes) / 2**30
    place = machine.gpu or "a CPU, where more samples take as much longer"
    return batch, (
        f"takes {gib:.2f} GiB of {machine.network_bytes / 2**30:.1f} GiB free, on "
        f"{place}"
    )


def _epochs(
    spec: InputSpec, batch: int, data: Survey, machine: Machine
) -> tuple[int, str]:
    most = MOST_STEPS["gpu" if machine.gpu else "cpu"]
    # A stack predicts only its centre slice.
    answered = replace(spec, context=0).patch_zyx()
    drawn = math.prod(answered) * batch
    wanted = math.ceil(PASSES * data.voxels / drawn)
    epochs = math.ceil(min(most, max(LEAST_STEPS, wanted)) / STEPS_PER_EPOCH)
    steps = epochs * STEPS_PER_EPOCH
    passes = steps * drawn / max(data.voxels, 1)
    return epochs, (
        f"{steps} steps of {STEPS_PER_EPOCH} an epoch: each annotated voxel is drawn "
        f"about {passes:.0f} times (sought {PASSES}, within {LEAST_STEPS} to {most} "
        "steps)"
    )


def best_kind(data: Survey) -> tuple[Kind, str]:
    """Return the kind to begin with, and the reason; only scores can decide."""
    if min(shape[0] for shape in data.shapes) < 8:
        return "2D", "the thinnest volume has fewer than 8 slices"
    if data.spacing is None:
        return "2D", (
            "voxel edges are unknown, and 2D does not depend on the distance of "
            "slices; give `spacing_um` for a plan that looks at it"
        )
    if max(data.edges) >= 4 * min(data.edges):
        return "2.5D", "voxels are 4 times as long as wide, or more"
    return "3D", "voxels are near enough to cubes, and volumes deep enough"


def _advice(kind: Kind, data: Survey) -> str:
    best, why = best_kind(data)
    if kind == best:
        return f"begin with this one: {why}; `cellseg3d benchmark` compares all three"
    return f"begin with {best}: {why}"


def _smallest(data: Survey) -> float:
    return min((c.diameter for c in data.classes if c.objects), default=math.nan)
