"""A bundle folder with weights that nobody trained, for tests of the command line."""

import torch

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.model_facts import network_for
from cellseg3d.models.checkpoint import save_weights

FACTS = {"classes": ["background", "cell"], "spacing_um": [0.1, 0.1, 0.1]}


def small_bundle(folder, dims=3, context=0, channels=(8, 16), stains=(), **window):
    """Write a bundle of a two-level residual U-Net; return its folder."""
    spec = {"spatial_dims": dims, "patch_shape": [16] * dims, "context": context}
    facts = FACTS
    if stains:
        spec["image_channels"] = len(stains)
        facts = {**FACTS, "channels": list(stains)}
    network_def = {
        "_target_": "cellseg3d.bundle.model_facts.network_for",
        "name": "residual_unet",
        "spec": "@spec",
        "facts": "@facts",
        "channels": list(channels),
    }
    intensity = {
        "_target_": "cellseg3d.datasets.intensity.IntensityScale",
        "mode": "range",
        "lower": 60,
        "upper": 140,
    }
    config = {
        "spec": spec,
        "window": window,
        "intensity": intensity,
        "facts": facts,
        "network_def": network_def,
    }
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    write_config(folder / "configs" / "inference.json", config)
    write_config(folder / "configs" / "metadata.json", {"name": "toy"})
    torch.manual_seed(3)
    network = network_for("residual_unet", spec, facts, channels=list(channels))
    balance(network.eval())
    weights = network.state_dict()
    place = folder / "models" / "model.safetensors"
    save_weights(place, weights, {"facts": facts})
    return folder


def balance(network):
    """Shift the answers so that on noise both classes come as often."""
    noise = torch.randn(1, network.in_channels, *(32,) * network.spatial_dims)
    with torch.no_grad():
        logits = network(noise)[0]
        last = [each for name, each in network.named_parameters() if "bias" in name][-1]
        last[1] -= (logits[1] - logits[0]).median()
