"""The bundles do as MONAI's tools expect: trained, moved, scored, exported."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigWorkflow
from processor import needs_bfloat16
from threshold_network import pick_bfloat16, values_with

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import override, read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.shipped import shipped_bundles
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.listed import listed_files
from cellseg3d.io.registry import open_volume, read_labels, write_labels, write_volume
from cellseg3d.prediction.inferer import VolumeInferer
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment

pytestmark = [
    # MONAI says of every config that it could run code.
    pytest.mark.filterwarnings("ignore:parsing:UserWarning"),
    pytest.mark.filterwarnings("ignore:building:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
BUNDLES = Path(__file__).parents[2] / "bundles"
METADATA_SCHEMA = (
    BUNDLES.parent / "tests" / "fixtures" / "schemas" / "monai-metadata.json"
)
NAMES = (
    "cell_tomo_unet2d",
    "cell_tomo_unet25d",
    "cell_tomo_unet3d",
    "cell_tomo_triaxial",
)
# Where the widths of each network stand in a bundle of several.
MEMBERS = {"cell_tomo_triaxial": ("members#unet25d#", "members#unet3d#")}
SPACING = Spacing(0.1, 0.05, 0.05)
SHAPE = (20, 33, 28)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three volumes of two classes, in three formats, of odd sizes."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    grid = np.mgrid[tuple(slice(size) for size in SHAPE)]
    centre = np.reshape(SHAPE, (3, 1, 1, 1)) / 2
    cases = []
    for number, suffix in enumerate((".mrc", ".nii.gz", ".tif")):
        radius = np.sqrt((((grid - centre) / centre) ** 2).sum(0))
        label = (radius < 0.6 + 0.1 * number).astype(np.uint8)
        image = (label + random.normal(0, 0.3, SHAPE)).astype(np.float32)
        write_volume(folder / f"v{number}{suffix}", Volume(image, SPACING))
        write_labels(folder / f"v{number}_label.tif", Volume(label, SPACING))
        name = f"v{number}"
        files = {"image": f"{name}{suffix}", "label": f"{name}_label.tif"}
        cases.append({"name": name, "group": name, **files})
    values = {"name": "toy", "classes": ["background", "cell"], "cases": cases}
    (folder / "datalist.json").write_text(json.dumps(values))
    return folder


def narrow(name):
    """Overrides, inside network_def, that make a bundle's networks small."""
    return {f"{place}channels": [4, 8] for place in MEMBERS.get(name, ("",))}


def dims(name):
    return 2 if name in ("cell_tomo_unet2d", "cell_tomo_unet25d") else 3


def tiny(name):
    return {
        **{f"network_def#{key}": value for key, value in narrow(name).items()},
        "train#trainer#max_epochs": 2,
        "train#dataset#samples": 8,
        "train#dataloader#batch_size": 2,
        "val_interval": 2,
        "spec#patch_shape": [16] * dims(name),
        "device": "cpu",
        "progress": False,
    }


def workflow(files, kind, run_id, **overrides):
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    return ConfigWorkflow(
        config_file=[str(file) for file in files],
        workflow_type=kind,
        run_id=run_id,
        logging_file=False,
        **overrides,
    )


def run(work):
    work.initialize()
    result = work.run()
    work.finalize()
    return result


class Trained:
    """A shipped bundle, zipped, unpacked elsewhere, trained in place by MONAI."""

    def __init__(self, name, folder, dataset):
        self.name, self.dataset = name, dataset
        archive = shutil.make_archive(str(folder / "packed"), "zip", BUNDLES / name)
        self.root = folder / "elsewhere" / name
        shutil.unpack_archive(archive, self.root)
        self.overrides = {**tiny(name), "dataset_dir": str(dataset)}
        work = workflow([self.config("train")], "train", "training", **self.overrides)
        run(work)
        # What a MONAI user overrides in training must be said again afterwards.
        self.network = {
            key: value
            for key, value in self.overrides.items()
            if key.startswith(("network_def", "spec"))
        }
        keys = ("device", "dataset_dir")
        self.again = self.network | {key: self.overrides[key] for key in keys}

    def config(self, name):
        return self.root / "configs" / f"{name}.json"

    def model(self):
        """The trained model; the bundle's own config still describes a wider one."""
        config = override(read_config(self.config("inference")), self.network)
        write_config(self.config("inference"), config)
        return load_model(self.root)


@pytest.fixture(scope="module", params=NAMES)
def trained(request, tmp_path_factory, dataset):
    here = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield Trained(request.param, tmp_path_factory.mktemp("bundle"), dataset)
    os.chdir(here)


def test_a_bundle_has_all_that_monai_asks_for(trained):
    for name, kind in (("train", "train"), ("inference", "infer")):
        work = workflow([trained.config(name)], kind, "run", **trained.again)
        work.initialize()

        assert work.check_properties() == []
        assert Path(work.bundle_root) == trained.root.resolve()


def test_training_in_place_leaves_weights_with_their_classes(trained):
    record = json.loads((trained.root / "run.json").read_text())
    weights = torch.load(trained.root / "models" / "model.pt", weights_only=True)

    assert record["state"] == "completed"
    assert record["data"]["classes"] == ["background", "cell"]
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


@pytest.mark.parametrize("files", [("train", "evaluate"), ("inference", "evaluate")])
def test_scoring_agrees_with_the_best_validation(trained, files):
    configs = [trained.config(name) for name in files]
    kind = "train" if files[0] == "train" else "infer"

    # Validation takes bfloat16 untried.
    settings = {**trained.again, "validate#inferer#trial": False}
    [scores] = run(workflow(configs, kind, "evaluating", **settings))

    record = json.loads((trained.root / "run.json").read_text())
    mean = scores["mean"]["cell"]["dice"]
    assert mean == pytest.approx(record["best_score"], abs=1e-6)
    assert list(scores["volumes"]) == ["v0"]


def test_inference_keeps_the_grid_of_every_volume(trained, tmp_path):
    overrides = {**trained.again, "output_dir": str(tmp_path), "output_ext": ".mrc"}

    run(workflow([trained.config("inference")], "infer", "inferring", **overrides))

    for name in ("v0", "v1", "v2"):
        labels = read_labels(tmp_path / f"{name}_labels.mrc")
        assert labels.shape == SHAPE
        assert labels.spacing.is_close(SPACING)
        assert set(np.unique(labels.read())) <= {0, 1}


def test_inference_takes_a_folder_of_slices_for_one_volume(trained, tmp_path):
    volume = open_volume(trained.dataset / "v0.mrc")
    stack = tmp_path / "stack"
    stack.mkdir()
    for z, plane in enumerate(volume.read()):
        tifffile.imwrite(stack / f"z{z}.tif", plane)
    overrides = {**trained.again, "output_dir": str(tmp_path / "out")}
    overrides |= {"dataset_dir": str(stack), "output_ext": ".tif"}

    run(workflow([trained.config("inference")], "infer", "inferring", **overrides))

    [found] = (tmp_path / "out").rglob("*.tif")
    assert found.name == "stack_labels.tif"
    assert read_labels(found).shape == SHAPE


def test_our_prediction_and_monais_are_the_same(trained, tmp_path):
    settings = {**trained.again, "precision": "float32", "output_dir": str(tmp_path)}
    run(workflow([trained.config("inference")], "infer", "inferring", **settings))

    model = trained.model()

    volume = open_volume(trained.dataset / "v0.mrc")
    scaled = model.intensity.apply(volume.read(), *model.intensity.measure(volume))
    edges = model.spacing_um.zyx
    inferer = VolumeInferer(model.spec, model.window, "float32", spacing_um=edges)
    logits = inferer(torch.from_numpy(scaled[None, None]), model.network)
    labels = read_labels(tmp_path / "v0_labels.nii.gz")
    assert model.classes == ("background", "cell")
    np.testing.assert_array_equal(logits[0].argmax(0).numpy(), labels.read())
    ours = segment(volume, model, SegmentOptions(precision="float32")).labels
    np.testing.assert_array_equal(ours.array, labels.read())


@pytest.mark.parametrize(
    ("files", "kind", "trial"),
    [
        (["train"], "train", False),
        (["train", "evaluate"], "train", True),
        (["inference", "evaluate"], "infer", True),
    ],
)
def test_only_validation_during_training_goes_without_a_trial(files, kind, trial):
    configs = [
        BUNDLES / "cell_tomo_unet3d" / "configs" / f"{one}.json" for one in files
    ]
    work = workflow(configs, kind, "run", device="cpu", window={})

    inferer = work.parser.get_parsed_content("validate::inferer")

    assert inferer.trial is trial
    assert inferer.precision == "auto"


@needs_bfloat16
def test_monais_inferring_takes_bfloat16_only_where_labels_stay(
    tmp_path, monkeypatch, caplog
):
    """A hundredth of the voxels would change; with few near the threshold, it runs."""
    pick_bfloat16(monkeypatch)
    caplog.set_level(logging.INFO, "cellseg3d")
    (tmp_path / "images").mkdir()
    for name, share in (("many", 1e-2), ("few", 2e-5)):
        values = values_with(share)
        write_volume(tmp_path / "images" / f"{name}.mrc", Volume(values, SPACING))
    settings = {
        "network": {"_target_": "threshold_network.Threshold"},
        # The bundle's own weights would have volumes brought to their spacing.
        "facts": {
            "_target_": "cellseg3d.bundle.model_facts.ModelFacts",
            "classes": ["background", "cell"],
        },
        "intensity": {
            "_target_": "cellseg3d.datasets.intensity.IntensityScale",
            "mode": "range",
            "lower": -1,
            "upper": 1,
        },
        "dataset_dir": str(tmp_path / "images"),
        "output_dir": str(tmp_path),
        "output_ext": ".mrc",
        "device": "cpu",
        "window": {},
    }
    config = BUNDLES / "cell_tomo_unet3d" / "configs" / "inference.json"

    run(workflow([config], "infer", "inferring", **settings))

    for name, most in (("many", 0), ("few", 1e-4)):
        volume = open_volume(tmp_path / "images" / f"{name}.mrc")
        labels = read_labels(tmp_path / f"{name}_labels.mrc").read()
        changed = (labels != (volume.read() > 1)).mean()
        assert changed <= most
        assert (changed > 0) == (name == "few")
    said = [record.getMessage() for record in caplog.records]
    known = "in a trial bfloat16 changed"
    assert sum(f"float32: {known} 1.0e-02" in one for one in said)
    assert sum(f"bfloat16: the test says so; {known}" in one for one in said)


def verify_metadata(file):
    monai.bundle.verify_metadata(
        meta_file=str(file),
        filepath=str(METADATA_SCHEMA),
        hash_val=hashlib.sha256(METADATA_SCHEMA.read_bytes()).hexdigest(),
        hash_type="sha256",
    )


@pytest.mark.parametrize("name", sorted(shipped_bundles()))
def test_metadata_of_every_bundle_pass_monais_check(name, monkeypatch):
    """`verify_metadata` downloads a schema unless it is there; nothing is asked for."""
    monkeypatch.setattr(
        "monai.apps.utils._download_with_progress",
        lambda *_, **__: pytest.fail("asked"),
    )
    file = BUNDLES / name / "configs" / "metadata.json"

    verify_metadata(file)

    values = json.loads(file.read_text(encoding="utf-8"))
    assert values["version"] in values["changelog"]
    for tensors in values["network_data_format"].values():
        for tensor in tensors.values():
            numbers = [str(number) for number in range(tensor["num_channels"])]
            assert list(tensor["channel_def"]) == numbers
    card = BUNDLES / name / "docs"
    assert (card / "README.md").is_file()
    if (BUNDLES / name / "models" / "model.safetensors").is_file():
        assert values["eval_metrics"]
        assert (card / "data_license.txt").is_file()


@pytest.mark.parametrize("wrong", [{"version": "new"}, {"task": ""}, {"authors": None}])
def test_metadata_that_are_wrong_do_not_pass(tmp_path, wrong):
    file = BUNDLES / "cell_tomo_unet2d" / "configs" / "metadata.json"
    values = json.loads(file.read_text(encoding="utf-8")) | wrong
    (tmp_path / "metadata.json").write_text(json.dumps(values), encoding="utf-8")

    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(tmp_path / "metadata.json")


def test_validation_runs_the_handlers_that_another_program_adds(trained):
    """MONAI Label overrides `validate#handlers`."""
    seen = {"_target_": "monai.handlers.StatsHandler", "name": "theirs"}
    work = workflow(
        [trained.config("train")],
        "train",
        "training",
        **trained.overrides,
        **{"validate#handlers": [seen]},
    )
    work.initialize()

    evaluator = work.parser.get_parsed_content("validate::evaluator")

    attached = [
        getattr(handler, "__self__", None)
        for handlers in evaluator._event_handlers.values()
        for handler, *_ in handlers
    ]
    assert "theirs" in {getattr(each, "name", None) for each in attached}


def test_lists_of_files_take_the_place_of_the_data_set(trained, dataset, tmp_path):
    """MONAI Label overrides `train#dataset#data` and `validate#dataset#data`."""

    def files(*numbers):
        return [
            {"image": str(path), "label": str(dataset / f"v{number}_label.tif")}
            for number in numbers
            for path in dataset.glob(f"v{number}.*")
        ]

    bundle = shutil.copytree(BUNDLES / trained.name, tmp_path / trained.name)
    shutil.rmtree(bundle / "models")
    overrides = {key: trained.overrides[key] for key in tiny(trained.name)}
    lists = {
        "train#dataset#data": files(0, 1),
        "validate#dataset#data": files(2),
    }
    config = bundle / "configs" / "train.json"

    run(workflow([config], "train", "training", **overrides, **lists))

    record = json.loads((bundle / "run.json").read_text())
    assert not (bundle / "data").exists()
    assert record["data"]["classes"] == [
        "background",
        "cytoplasm",
        "nucleus",
        "mitochondrion",
    ]
    network = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(bool(torch.isfinite(value).all()) for value in network.values())
    history = (bundle / "history.json").read_text()
    assert "002_v2.tif" in history
    assert "v0" not in history


def test_a_list_of_something_else_is_refused():
    with pytest.raises(ConfigError, match=r"item 1 is .*expected \{'image': PATH"):
        listed_files([{"image": "a.tif", "label": "b.tif"}, {"image": "c.tif"}], [], ())
    with pytest.raises(ConfigError, match="list files to train on"):
        listed_files([], [{"image": "a.tif", "label": "b.tif"}], ())


def test_the_network_takes_what_the_metadata_say(trained):
    facts = {"classes": ["background", "cytoplasm", "nucleus", "mitochondrion"]}
    for name in ("train", "inference"):
        for n in (1, 2, 3):
            monai.bundle.verify_net_in_out(
                "network_def",
                meta_file=str(trained.root / "configs" / "metadata.json"),
                config_file=str(trained.config(name)),
                device="cpu",
                n=n,
                facts=facts,
            )


def test_monais_own_loader_and_export_give_the_same_network(trained, tmp_path):
    exported = tmp_path / "model.ts"
    monai.bundle.ckpt_export(
        "network_def",
        filepath=str(exported),
        ckpt_file=str(trained.root / "models" / "model.pt"),
        config_file=str(trained.config("inference")),
        meta_file=str(trained.root / "configs" / "metadata.json"),
        **trained.network,
    )
    script = torch.jit.load(str(exported)).eval()

    for kind in ("train", "inference"):
        network = monai.bundle.load(
            trained.name,
            workflow_type=kind,
            bundle_dir=str(trained.root.parent),
            source="github",
            device="cpu",
            net_override=narrow(trained.name),
        ).eval()
        image = torch.rand(1, network.in_channels, *([21] * network.spatial_dims))
        with torch.no_grad():
            expected = network(image)
            assert expected.shape[1] == 2
            torch.testing.assert_close(script(image), expected, rtol=0, atol=1e-6)


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def command(trained_root, words, overrides, cwd):
    options = [
        word for key, value in overrides.items() for word in (f"--{key}", str(value))
    ]
    done = subprocess.run(
        [sys.executable, "-m", *words, *options],
        cwd=cwd,
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def fresh(tmp_path, dataset):
    root = tmp_path / "cell_tomo_unet2d"
    shutil.copytree(BUNDLES / "cell_tomo_unet2d", root)
    return root, {**tiny("cell_tomo_unet2d"), "dataset_dir": str(dataset)}


@pytest.mark.slow
def test_monais_command_line_trains_and_resumes_to_the_same_bits(fresh):
    root, overrides = fresh
    overrides["precision"] = "float32"
    words = ["monai.bundle", "run", "training", "--config_file", "configs/train.json"]
    command(root, words, overrides, root)
    whole = digest(root)
    shutil.rmtree(root / "checkpoints")
    command(root, words, {**overrides, "train#trainer#max_epochs": 1}, root)
    command(root, words, {**overrides, "resume": True}, root)

    assert digest(root) == whole


@pytest.mark.slow
def test_plain_run_and_two_processes_train(fresh):
    root, overrides = fresh
    launcher = ["torch.distributed.run", "--nproc_per_node", "2", "-m"]
    words = ["monai.bundle", "run", "--config_file", "configs/train.json"]

    command(root, [*launcher, *words], overrides, root)

    record = json.loads((root / "run.json").read_text())
    assert record["state"] == "completed"
    assert 0 <= record["best_score"] <= 1


@pytest.mark.slow
def test_onnx_gives_the_same_network(trained, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exported = tmp_path / "model.onnx"
    words = ["monai.bundle", "onnx_export", "network_def"]
    overrides = {
        "filepath": exported,
        "ckpt_file": trained.root / "models" / "model.pt",
        "meta_file": trained.root / "configs" / "metadata.json",
        "config_file": trained.config("inference"),
        **trained.network,
    }
    command(trained.root, words, overrides, trained.root)

    network = trained.model().network
    image = torch.rand(1, network.in_channels, *([16] * network.spatial_dims))
    session = runtime.InferenceSession(str(exported))
    [answer] = session.run(None, {session.get_inputs()[0].name: image.numpy()})

    with torch.no_grad():
        np.testing.assert_allclose(answer, network(image).numpy(), atol=1e-4)


def digest(root):
    content = torch.load(root / "models" / "model.pt", weights_only=True)
    hasher = hashlib.sha256()
    for name, value in sorted(content.items()):
        hasher.update(name.encode() + value.numpy().tobytes())
    return hasher.hexdigest()
