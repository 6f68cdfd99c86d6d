"""Members of a bundle that fuses several networks, and networks from their blocks."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from cellseg3d.bundle.model_facts import ModelFacts, network_for
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.models.fused_networks import FusedNetworks, Member


def member_for(
    name: str,
    spec: InputSpec | dict[str, Any],
    facts: ModelFacts | Mapping[str, Any],
    window: Mapping[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 - each network has its own
) -> Member:
    """Return a member of `cellseg3d.models.fused_networks.FusedNetworks`.

    Parameters
    ----------
    name, spec, facts, **options
        As for `cellseg3d.bundle.model_facts.network_for`.
    window : mapping, optional
        Core, halo, axes and weights of this member; see
        `cellseg3d.prediction.lattice.WindowSettings`.
    """
    return Member(network_for(name, spec, facts, **options), spec, window)


def network_of(
    network_def: Mapping[str, Any], spec: InputSpec, facts: ModelFacts
) -> nn.Module:
    """Return the untrained network that a bundle's ``network_def`` describes.

    Parameters
    ----------
    network_def : mapping
        The block as the config has it; its references stand for what follows.
    spec : InputSpec
    facts : ModelFacts
    """
    if "members" not in network_def:
        return network_for(spec=spec, facts=facts, **_options(network_def))
    members = {}
    for name, block in network_def["members"].items():
        own = spec if block["spec"] == "@spec" else block["spec"]
        members[name] = member_for(spec=own, facts=facts, **_options(block))
    return FusedNetworks(members)


def _options(block: Mapping[str, Any]) -> dict[str, Any]:
    given = ("_target_", "spec", "facts")
    return {key: value for key, value in block.items() if key not in given}
