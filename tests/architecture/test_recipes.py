"""Each recipe trains what it says: network, loss, crops, ImageNet's weights."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from torch.utils.data import DataLoader

from cellseg3d.bundle.assemble import bundle_configs
from cellseg3d.bundle.compose import override, read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.core.errors import FormatError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.labels import map_labels
from cellseg3d.datasets.volumes import load_fold
from cellseg3d.io.registry import (
    open_volume,
    read_labels,
    write_labels,
    write_volume,
)
from cellseg3d.models.checkpoint import save_weights
from cellseg3d.models.losses import DiceCELoss
from cellseg3d.models.unet import build_network
from cellseg3d.prediction.segment import segment_to_file
from cellseg3d.runs.options import TrainOptions
from cellseg3d.runs.patch import choose_patch
from cellseg3d.simulate.components import LABEL_NAMES
from cellseg3d.training.model_files import load_pretrained
from cellseg3d.training.step import TrainingStep
from cellseg3d.training.train import train

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {
    "cell_tomo_cascade": (256, 3),
    "em_mitochondria_unet2d": (256, 2),
    "mes_nuclei_googlenet": (256, 2),
    "nuclei_unet2d": (256, 2),
    "cell_tomo_unet31m": (464, 2),
}
SLICE = {"spatial_dims": 2, "patch_shape": [32, 32]}


def config_of(name):
    return bundle_configs(CONFIGS / "experiment" / f"{name}.yaml")["train"]


def parts(name, *wanted, **changes):
    """What a training config describes, built as MONAI builds it."""
    config = override(config_of(name), {"facts": config_of(name)["default_facts"]})
    parser = ConfigParser({**config, **changes})
    return [parser.get_parsed_content(key) for key in wanted]


@pytest.mark.parametrize(("name", "side"), [(n, s) for n, (s, _) in RECIPES.items()])
def test_slices_have_the_size_of_the_original(name, side):
    spec = InputSpec.parse(config_of(name)["spec"])

    assert choose_patch(spec, [(400, 600, 600)]) == (side, side)
    assert choose_patch(spec, [(30, 100, 130)]) == (96, 128)


@pytest.mark.parametrize(
    "name", [name for name in RECIPES if name != "cell_tomo_unet31m"]
)
def test_every_network_learns_by_its_own_loss_and_optimiser(name):
    torch.manual_seed(0)
    network, loss, optimizer = parts(
        name, "network_def", "loss", "optimizer", network="@network_def"
    )
    classes = RECIPES[name][1]
    rows = torch.arange(32.0)
    radius = ((rows[:, None] - 15) ** 2 + (rows - 15) ** 2).sqrt()
    label = ((radius < 12).float() + (radius < 6)).clamp(max=classes - 1)
    label = label.expand(2, 1, 32, 32)
    values = []
    for _ in range(4):
        image = label - 1 + 0.1 * torch.randn_like(label)
        value = loss(network(image), label)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))

    assert network.num_classes == classes
    assert min(values[1:]) < values[0]


def test_the_large_unet_has_31_million_parameters():
    with torch.device("meta"):
        network = build_network("unet31m", SLICE, 2)

    assert sum(p.numel() for p in network.parameters()) == pytest.approx(31e6, rel=0.02)


@pytest.mark.parametrize("name", RECIPES)
def test_augmentation_moves_image_and_label_alike(name):
    (compose,) = parts(name, "train::preprocessing")
    compose.set_random_state(seed=3)
    label = torch.zeros(1, 64, 64)
    label[:, 20:40, 15:50] = 1

    moved = compose({"image": label * 2 - 1, "label": label})

    assert not torch.equal(moved["label"], label)
    assert set(moved["label"].unique().tolist()) == {0.0, 1.0}
    brighter = moved["image"][moved["label"] == 1].mean()
    assert brighter > moved["image"][moved["label"] == 0].mean() + 0.5


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory):
    """A file with the names and shapes of torchvision's vgg16, filled with noise."""
    network = build_network("vgg16_unet", {**SLICE, "image_channels": 3}, 2).network
    values = {
        name: torch.rand_like(tensor)
        for name, tensor in network.state_dict().items()
        if name.startswith("features.")
    }
    path = tmp_path_factory.mktemp("published") / "vgg16.pth"
    torch.save({**values, "classifier.6.bias": torch.rand(3)}, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()[:8], values


def test_another_hash_than_the_published_one_is_refused_unless_named(vgg16):
    path, sha256, values = vgg16
    network = build_network("vgg16_unet", SLICE, 2)

    with pytest.raises(FormatError, match="397923af"):
        load_pretrained(network, path)
    # As `--pretrained FILE --set network::network::sha256=HASH` sets them.
    options = TrainOptions(
        pretrained=path, settings={"network::network::sha256": sha256}
    )
    config = override(config_of("cell_tomo_cascade"), options.overrides())
    network = ConfigParser(
        {**config, "facts": config["default_facts"], "device": "cpu"}
    ).get_parsed_content("network")

    for stage in (network.network.stage_one, network.network.stage_two):
        own = stage.state_dict()
        assert torch.equal(own["features.28.weight"], values["features.28.weight"])
        grey = values["features.0.weight"].sum(1, keepdim=True)
        torch.testing.assert_close(own["features.0.weight"], grey)


def test_weights_of_our_own_still_load_into_a_network_with_an_encoder(tmp_path):
    torch.manual_seed(0)
    options = {"last_stage": 3}
    network = build_network("googlenet_fcn", SLICE, 2, **options)
    path = tmp_path / "model.safetensors"
    save_weights(path, network.state_dict())
    torch.save(network.state_dict(), tmp_path / "model.pt")

    for file in (path, tmp_path / "model.pt"):
        other = load_pretrained(
            build_network("googlenet_fcn", SLICE, 2, **options), file
        )
        assert all(
            torch.equal(tensor, network.state_dict()[name])
            for name, tensor in other.state_dict().items()
        )


def test_without_a_file_the_encoder_trains_from_scratch_and_says_so(caplog):
    load_pretrained(build_network("googlenet_fcn", SLICE, 2, last_stage=3), None)

    assert "from scratch" in caplog.text


def test_a_pretrained_encoder_stays_as_it_is_for_the_epochs_asked_for(tmp_path):
    torch.manual_seed(0)
    network = build_network("googlenet_fcn", SLICE, 2, last_stage=3)
    inner = network.network
    item = {"image": torch.randn(1, 32, 32), "label": torch.ones(1, 32, 32)}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=DataLoader([item, item], batch_size=2),
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1),
        loss_function=DiceCELoss(),
        iteration_update=TrainingStep(tmp_path, frozen_epochs=1),
        decollate=False,
    )
    seen = []

    def keep():
        weights = (inner.conv1.conv.weight, inner.grow.weight)
        seen.append([weight.detach().clone() for weight in weights])

    keep()
    trainer.add_event_handler(Events.EPOCH_COMPLETED, keep)

    trainer.run()

    (encoder, head), (frozen, learnt), (free, _) = seen
    assert torch.equal(frozen, encoder)
    assert not torch.equal(learnt, head)
    assert not torch.equal(free, encoder)


def datalist_of_the_page(section):
    """The datalist that docs/recipes.md shows in a section."""
    text = (CONFIGS.parent / "docs" / "recipes.md").read_text()
    block = text.split(f"\n## {section}\n")[1].split("\n{")[1].split("\n```")[0]
    return json.loads("{" + block)


def test_files_laid_out_as_epfl_s_train_as_the_page_says(tmp_path):
    mask = np.zeros((3, 20, 24), np.uint8)
    mask[1, 5:9, 3:10] = 255
    for name in ("training", "testing"):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", 100 - mask // 4, photometric="minisblack"
        )
        truth = tmp_path / f"{name}_groundtruth.tif"
        tifffile.imwrite(truth, mask, photometric="minisblack")
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps(datalist_of_the_page("Mitochondria")))

    fold = load_fold(path)

    assert [case.name for case in fold.training] == ["training"]
    assert [case.name for case in fold.fold.test] == ["testing"]
    (case,) = fold.training
    assert case.spacing.zyx == (0.005, 0.005, 0.005)
    np.testing.assert_array_equal(case.label, mask // 255)


def test_simulated_cells_have_the_classes_of_the_cascade_by_the_page_s_label_map():
    text = (CONFIGS.parent / "docs" / "recipes.md").read_text()
    shown = text.split('"label_map": ')[1].split("},")[0] + "}"
    label_map = {int(key): value for key, value in json.loads(shown).items()}
    values = np.array(sorted(LABEL_NAMES)).reshape(1, 1, -1)

    found = map_labels(values, label_map, 3, "cell")

    names = [LABEL_NAMES[value] for value in sorted(LABEL_NAMES)]
    assert names[2] == "nucleus"
    assert found.ravel().tolist() == [0, 1, 2, 1, 1, 1]


def write_cells(folder, side=32):
    """Write three volumes of a nucleus in a cell, and their datalist."""
    random = np.random.default_rng(0)
    grid = np.mgrid[:6, :side, :side]
    cases = []
    for number in range(3):
        centre = np.reshape([2.5, *random.uniform(0.4, 0.6, 2) * side], (3, 1, 1, 1))
        radius = np.sqrt(((grid - centre)[1:] ** 2).sum(0))
        label = (radius < 0.4 * side).astype(np.uint8) + (radius < 0.2 * side)
        image = (label + random.normal(0, 0.2, label.shape)).astype(np.float32)
        name = f"cell{number}"
        write_volume(folder / f"{name}.mrc", Volume(image, Spacing(0.1, 0.1, 0.1)))
        write_labels(folder / f"{name}_l.tif", Volume(label.astype(np.uint8)))
        cases.append({"name": name, "image": f"{name}.mrc", "label": f"{name}_l.tif"})
    classes = ["background", "cytoplasm", "nucleus"]
    path = folder / "datalist.json"
    path.write_text(json.dumps({"classes": classes, "cases": cases}))
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_cascade_is_one_bundle_from_training_to_labels(tmp_path):
    data = write_cells(tmp_path)
    # A small network in both stages: that of the bundle has 34 million parameters.
    small = {
        "network_def::stage": "unet",
        "network_def::channels": [8, 16],
        "train::dataset::samples": 160,
        "optimizer::lr": 0.01,
    }

    run = train(
        "cell_tomo_cascade",
        data,
        tmp_path / "run",
        TrainOptions(epochs=1, seed=0, progress=False, settings=small),
    )

    model = load_model(run)
    out = tmp_path / "cell0_labels.tif"
    segment_to_file(open_volume(tmp_path / "cell0.mrc"), model, out)
    found = read_labels(out).read()
    truth = read_labels(tmp_path / "cell0_l.tif").read()
    assert model.classes == ("background", "cytoplasm", "nucleus")
    assert read_config(run / "configs" / "inference.json")["network_def"]["name"] == (
        "cascade"
    )
    assert (found == truth).mean() > 0.9
