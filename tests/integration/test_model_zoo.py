"""What the model zoo of MONAI asks of a bundle, by stock MONAI, for all of ours."""

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import monai.bundle
import numpy as np
import pytest
import torch
from other_process import output_of
from safetensors.torch import load_file

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.shipped import shipped_bundles, weights_file

SHIPPED = shipped_bundles()
TRAINED = sorted(name for name, at in SHIPPED.items() if weights_file(at).is_file())
# The bundle whose export is tested in every run; the others take seconds each.
QUICK = "nuclei_unet2d"


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


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == QUICK else pytest.mark.slow)
        for name in TRAINED
    ],
)
def test_monai_exports_each_network_with_its_weights_as_torchscript(name, tmp_path):
    root = SHIPPED[name]
    folder = root / "configs"

    monai.bundle.ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(weights_file(root)),
        meta_file=str(folder / "metadata.json"),
        config_file=str(folder / "inference.json"),
    )

    script = torch.jit.load(tmp_path / "model.ts").eval()
    ours = load_model(root).network
    image = noise_for(ours)
    with torch.no_grad():
        expected = ours(image)
        assert expected.std() > 0.1
        torch.testing.assert_close(script(image), expected, rtol=0, atol=1e-6)


def noise_for(network):
    """An input (1, C, ...) of noise for a network, 32 voxels along each axis."""
    shape = (1, network.in_channels, *([32] * network.spatial_dims))
    noise = np.random.default_rng(0).normal(size=shape)
    return torch.from_numpy(noise.astype(np.float32))


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
    image = noise_for(ours)
    fetched = tmp_path / name / weights_file(root).relative_to(root)
    network.load_state_dict(load_file(fetched))
    with torch.no_grad():
        torch.testing.assert_close(network(image), ours(image), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_monais_command_line_downloads_a_zip_file_of_a_bundle(server, tmp_path):
    """The zip file is made as docs/bundles.md says, and cellseg3d loads the copy."""
    pytest.importorskip("fire", reason="pip install 'cellseg3d[all]'")
    name = QUICK
    place, address = server
    archive = f"{name}_v0.2.0.zip"
    asked("zipfile", "-c", place / archive, SHIPPED[name])

    options = ["--name", name, "--bundle_dir", tmp_path, "--progress", "False"]
    asked("monai.bundle", "download", *options, "--url", f"{address}/{archive}")

    fetched, ours = load_model(tmp_path / name), load_model(SHIPPED[name])
    assert fetched.sha256 == ours.sha256
    assert fetched.path == tmp_path / name
    image = noise_for(ours.network)
    with torch.no_grad():
        assert torch.equal(fetched.network(image), ours.network(image))
    for part in ("LICENSE", "docs/README.md", "configs/metadata.json"):
        assert (tmp_path / name / part).read_bytes() == (
            SHIPPED[name] / part
        ).read_bytes()


def asked(module, *words):
    """Run a module of Python as its command line does."""
    output_of("-m", module, *words)
