"""Members of a bundle that fuses several networks: built, and taken from bundles."""

from collections.abc import Mapping
from typing import Any

from cellseg3d.bundle.facts import ModelFacts, network_for
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.models.fused_networks import Member


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
        As for `cellseg3d.bundle.facts.network_for`.
    window : mapping, optional
        Core, halo, axes and weights of this member; see
        `cellseg3d.inference.lattice.WindowPlan`.
    """
    return Member(network_for(name, spec, facts, **options), spec, window)
