"""What the model zoo of MONAI asks of a bundle, by stock MONAI, for all of ours."""

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import monai.bundle
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.shipped import shipped_bundles, weights_file

SHIPPED = shipped_bundles()
TRAINED = sorted(name for name, at in SHIPPED.items() if weights_file(at).is_file())


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_the_network_of_each_bundle_takes_and_gives_what_its_metadata_say(name):
    folder = SHIPPED[name] / "configs"

    monai.bundle.verify_net_in_out(
        "network_def",
        meta_file=str(folder / "metadata.json"),
        config_file=str(folder / "inference.json"),
        device="cpu",
        n=2,
    )


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_each_bundle_has_a_licence_a_card_and_the_source_of_its_data(name):
    folder = SHIPPED[name]

    metadata = read_config(folder / "configs" / "metadata.json")

    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    card = (folder / "docs" / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    assert metadata["description"]
    assert metadata["data_source"]
    if name in TRAINED:
        assert "licen" in card.lower()


@pytest.fixture
def server(tmp_path):
    """An HTTP server on this machine that gives the files of a folder."""
    place = tmp_path / "served"
    place.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(place))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield place, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.filterwarnings("ignore:No hash value provided")
@pytest.mark.parametrize("name", TRAINED)
def test_monai_downloads_a_bundle_and_runs_its_network(name, server, tmp_path):
    place, address = server
    root = SHIPPED[name]
    shutil.make_archive(str(place / name), "zip", root.parent, name)

    monai.bundle.download(
        name, bundle_dir=str(tmp_path), url=f"{address}/{name}.zip", progress=False
    )

    folder = tmp_path / name / "configs"
    workflow = monai.bundle.ConfigWorkflow(
        config_file=str(folder / "inference.json"),
        meta_file=str(folder / "metadata.json"),
        workflow_type="inference",
        bundle_root=str(tmp_path / name),
        device="cpu",
    )
    workflow.initialize()
    network = workflow.network_def.eval()
    ours = load_model(root).network
    shape = [ours.in_channels, *([32] * ours.spatial_dims)]
    image = torch.from_numpy(
        np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    )
    fetched = tmp_path / name / weights_file(root).relative_to(root)
    network.load_state_dict(load_file(fetched))
    with torch.no_grad():
        torch.testing.assert_close(network(image), ours(image), rtol=0, atol=1e-6)
