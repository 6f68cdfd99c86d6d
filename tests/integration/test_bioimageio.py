"""Packages of bioimage.io: its own client runs ours, and we run those of others."""

import hashlib
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
import yaml
from other_process import output_of
from small_bundle import small_bundle

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.bioimageio.description import INPUT, OUTPUT, RDF, TORCHSCRIPT
from cellseg3d.bundle.bioimageio.export import export_bioimageio
from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.resolve import build, resolve_config
from cellseg3d.bundle.shipped import shipped_bundles, weights_file
from cellseg3d.bundle.take_in import import_package
from cellseg3d.cli.main import main
from cellseg3d.core.errors import CellSegError, ConfigError, FormatError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.models.checkpoint import save_weights
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment

SHIPPED = sorted(
    name for name, at in shipped_bundles().items() if weights_file(at).is_file()
)
KINDS = {"2D": (2, 0), "2.5D": (2, 1), "3D": (3, 0)}
SCALES = {
    "percentile": {"mode": "percentile", "lower": 2, "upper": 98},
    "range": {"mode": "range", "lower": 40, "upper": 160},
    "zscore": {"mode": "zscore"},
}
# Runs in a process of its own: the client's imports warn of this and that.
CLIENT = """
import json, sys
import numpy as np
from bioimageio.core import load_model_description, test_model
from bioimageio.core.prediction import predict

package, image, out = sys.argv[1:]
summary = test_model(package)
array = np.load(image)
model = load_model_description(package)
found = predict(model=model, inputs={"image": array})
np.save(out, found.members["probabilities"].data.values)
names = [detail.name for detail in summary.details]
print(json.dumps({"status": summary.status, "checks": names}))
"""


def scaled_bundle(folder, kind, scale):
    """A small network of one kind whose bundle scales intensities in one way."""
    dims, context = KINDS[kind]
    bundle = small_bundle(folder, dims, context)
    path = bundle / "configs" / "inference.json"
    config = read_config(path)
    target = config["intensity"]["_target_"]
    write_config(path, config | {"intensity": {"_target_": target, **SCALES[scale]}})
    return bundle


def volume_for(model, seed=5):
    """Noise whose slices are as large as those of the training, so none is mirrored."""
    random = np.random.default_rng(seed)
    members = getattr(model.network, "members", {}).values()
    specs = [model.spec, *(member.spec for member in members)]
    side = max([64, *(max(s.patch_shape) for s in specs if s.spatial_dims == 2)])
    deep = model.spec.spatial_dims == 3
    shape = (32 if deep else 2 * model.spec.context + 1, side, side + 32)
    several = model.spec.image_channels > 1
    shape = (model.spec.image_channels, *shape[-3:]) if several else shape[-3:]
    array = random.normal(100, 20, shape).astype(np.float32)
    return Volume(array, model.spacing_um or Spacing(0.1, 0.1, 0.1))


def seam_error(model):
    """What the windows of a fused 3D network may change; other volumes have one window.

    The 3D windows of the fused bundle are smaller than slices that are not mirrored.
    """
    members = getattr(model.network, "members", {}).values()
    return max((member.window.get("halo_error", 0) for member in members), default=0)


def our_probs(model, volume):
    """The probabilities (K, Z, Y, X) of the plain network, windows and all."""
    options = SegmentOptions(
        probs=True, acceleration="off", precision="float32", adapt="off"
    )
    return segment(volume, model, options).probs


def asked(script, *words):
    return json.loads(output_of("-c", script, *words).splitlines()[-1])


def check_with_the_client(bundle, tmp_path):
    pytest.importorskip("bioimageio.core", reason="pip install 'cellseg3d[bioimageio]'")
    package = export_bioimageio(bundle, tmp_path / "package")
    model = load_model(bundle)
    volume = volume_for(model)
    deep = model.spec.spatial_dims == 3
    parts = volume.array if volume.array.ndim == 4 else volume.array[None]
    # In 2D, the axis of channels holds the slices of a stack.
    given = parts[None] if deep else parts.reshape(1, -1, *volume.shape[1:])
    np.save(tmp_path / "given.npy", given)

    said = asked(CLIENT, package, tmp_path / "given.npy", tmp_path / "found.npy")

    assert said["status"] == "passed", said
    assert any("inference" in name for name in said["checks"])
    found = np.load(tmp_path / "found.npy")[0]
    ours = our_probs(model, volume)
    if model.spec.spatial_dims == 2:
        ours = ours[:, model.spec.context]
    assert ours.std() > 1e-3
    assert np.abs(found - ours).mean() < 1e-4
    np.testing.assert_allclose(found, ours, atol=max(1e-4, seam_error(model)))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_the_official_client_passes_each_shipped_bundle_and_predicts_the_same(
    name, tmp_path
):
    check_with_the_client(shipped_bundles()[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_the_official_client_scales_each_of_several_channels_by_itself(dims, tmp_path):
    bundle = small_bundle(tmp_path / "bundle", dims, stains=("DAPI", "actin"))
    path = bundle / "configs" / "inference.json"
    config = read_config(path)
    target = config["intensity"]["_target_"]
    scaling = {"_target_": target, **SCALES["percentile"]}
    write_config(path, config | {"intensity": scaling})

    check_with_the_client(bundle, tmp_path)

    described = yaml.safe_load((tmp_path / "package" / RDF).read_text())
    axis = described["inputs"][0]["axes"][1]
    assert axis == {"type": "channel", "channel_names": ["DAPI", "actin"]}


def test_stacks_of_several_channels_have_no_package(tmp_path):
    bundle = small_bundle(tmp_path / "bundle", 2, 1, stains=("DAPI", "actin"))

    with pytest.raises(ConfigError, match="takes stacks of 2 image channels"):
        export_bioimageio(bundle, tmp_path / "package")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scale"), [("2.5D", "percentile"), ("2D", "range"), ("3D", "zscore")]
)
def test_the_official_client_passes_every_kind_of_input_and_scaling(
    kind, scale, tmp_path
):
    check_with_the_client(scaled_bundle(tmp_path / "bundle", kind, scale), tmp_path)


def random_weights(name, folder):
    """A shipped bundle with weights that nobody trained; the small networks alone."""
    bundle = shutil.copytree(shipped_bundles()[name], folder / name)
    file = bundle / "configs" / "inference.json"
    facts = read_config(file)["default_facts"]
    blocks = resolve_config(file, {"facts": facts}, only=["network_def"])
    torch.manual_seed(0)
    network = build(blocks["network_def"], file)
    save_weights(weights_file(bundle), network.state_dict(), {"facts": facts})
    return bundle


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(shipped_bundles()) - set(SHIPPED)))
def test_a_bundle_that_is_trained_by_its_user_can_be_exported(name, tmp_path):
    """Each kind of network can be written as TorchScript, and taken in again."""
    bundle = random_weights(name, tmp_path)

    package = export_bioimageio(bundle, tmp_path / "package")

    model = load_model(bundle)
    script = torch.jit.load(package / TORCHSCRIPT).eval()
    values = yaml.safe_load((package / RDF).read_text(encoding="utf-8"))
    sides = [axis["size"] for axis in values["inputs"][0]["axes"][2:]]
    shape = [size["min"] + size["step"] for size in sides]
    image = torch.rand(1, model.network.in_channels, *shape)
    with torch.no_grad():
        expected = model.network(image)
        torch.testing.assert_close(script(image), expected, rtol=0, atol=1e-5)
    if model.spec.context == 0:
        taken = load_model(import_package(package, tmp_path / "taken"))
        assert taken.classes == model.classes


@pytest.mark.parametrize(
    ("kind", "scale"), [("2D", "percentile"), ("3D", "range"), ("3D", "zscore")]
)
def test_a_package_that_is_taken_in_again_predicts_the_same(kind, scale, tmp_path):
    bundle = scaled_bundle(tmp_path / "bundle", kind, scale)
    package = export_bioimageio(bundle, tmp_path / "package.zip")

    taken = load_model(import_package(package, tmp_path / "taken"))

    model = load_model(bundle)
    volume = volume_for(model)
    assert taken.classes == model.classes
    expected = our_probs(model, volume)
    np.testing.assert_allclose(our_probs(taken, volume), expected, atol=1e-5)
    fast = segment(volume, taken, SegmentOptions(probs=True))
    assert "float32" in json.dumps(fast.provenance)
    np.testing.assert_allclose(fast.probs, expected, atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    bundle = small_bundle(folder / "bundle", 2)
    export_bioimageio(bundle, folder / "package")
    return folder


@pytest.fixture
def package(exported, tmp_path):
    """A package of a small 2D network of ours, for a stranger to change."""
    return shutil.copytree(exported / "package", tmp_path / "package")


def rewrite(package, change):
    """Change the description, and bring the hashes of the files in line with them."""
    path = package / RDF
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(values)
    blocks = [*values["weights"].values(), values["inputs"][0]["test_tensor"]]
    for block in [*blocks, values["outputs"][0]["test_tensor"]]:
        file = package / block["source"]
        if file.is_file():
            block["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


class Saves(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        torch.ops.aten.save(image, "marker")
        return torch.cat([image, image], 1)


class Reads(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = torch.from_file("secret", size=image.numel())
        return torch.cat([image, found.view_as(image)], 1)


class SavesWhenLoaded(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self):
        return (self.value, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        torch.ops.aten.save(state[0], "marker")
        self.value = state[0]
        self.training = state[1]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image], 1)


class Waits(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, torch.bernoulli(image)], 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Saves, "uses 'save'"),
        (Reads, "uses 'from_file'"),
        (SavesWhenLoaded, "uses 'save'"),
        (Waits, "calls the operator 'bernoulli'"),
    ],
)
def test_a_program_that_does_more_than_compute_is_not_loaded(
    package, network, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    torch.jit.script(network()).save(str(package / TORCHSCRIPT))
    (tmp_path / "marker").unlink(missing_ok=True)
    rewrite(package, lambda _: None)

    with pytest.raises(ConfigError, match=words) as caught:
        import_package(package, tmp_path / "taken")

    assert "nothing was run" in str(caught.value)
    assert not (tmp_path / "marker").exists()
    assert not (tmp_path / "taken").exists()


def hide(package):
    """Put a second text of the same name into the program: readers differ on which."""
    path = package / TORCHSCRIPT
    with zipfile.ZipFile(path) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".py"))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as it:
        it.writestr(name, "def forward(self):\n  return 1\n")


def test_a_program_that_two_readers_read_differently_is_refused(package, tmp_path):
    hide(package)
    rewrite(package, lambda _: None)

    with pytest.raises(FormatError, match="twice"):
        import_package(package, tmp_path / "taken")


def test_a_description_that_is_no_text_is_refused(package, tmp_path):
    path = package / RDF
    path.write_bytes(path.read_bytes() + b"\x80")

    with pytest.raises(FormatError, match="is no UTF-8 text"):
        import_package(package, tmp_path / "taken")

    assert not (tmp_path / "taken").exists()


def test_an_array_whose_header_ends_in_the_middle_is_refused(package, tmp_path):
    path = package / OUTPUT
    data = path.read_bytes()
    path.write_bytes(data.replace(b"}", b" ", 1))  # numpy splits it as Python's text
    rewrite(package, lambda _: None)

    with pytest.raises(FormatError, match="the test output is not an array"):
        import_package(package, tmp_path / "taken")


@pytest.mark.parametrize(
    ("key", "value"), [("cite", [[]]), ("authors", ["me"]), ("name", 3)]
)
def test_authors_and_citations_of_another_form_are_refused(
    package, key, value, tmp_path
):
    rewrite(package, lambda values: values.update({key: value}))

    with pytest.raises(ConfigError, match=rf"its description: {key}.* is .*; expected"):
        import_package(package, tmp_path / "taken")

    assert not (tmp_path / "taken").exists()


def first_input(values):
    return values["inputs"][0]


def say(values, **changed):
    values.update(changed)


def only_python(values):
    torchscript = values["weights"].pop("torchscript")
    values["weights"]["pytorch_state_dict"] = torchscript | {
        "architecture": {"callable": "Net", "import_from": "stranger"}
    }


CHANGES = {
    "another version": (lambda v: say(v, format_version="0.4.10"), "update-format"),
    "another kind": (lambda v: say(v, type="dataset"), "expected a model"),
    "outside": (
        lambda v: v["weights"]["torchscript"].update(source="../model.ts"),
        "lies outside the package",
    ),
    "an address": (
        lambda v: v["weights"]["torchscript"].update(source="https://x.example/m.ts"),
        "is not fetched",
    ),
    "python": (only_python, "run without its author's code"),
    "colours": (
        lambda v: first_input(v)["axes"][1].update(channel_names=["r", "g", "b"]),
        "only models of one channel are taken",
    ),
    "several inputs": (
        lambda v: v["inputs"].append(first_input(v) | {"id": "b"}),
        "one",
    ),
    "time": (
        lambda v: first_input(v)["axes"].append({"type": "time", "id": "t", "size": 1}),
        "has the axis 't'",
    ),
    "half the size": (
        lambda v: v["outputs"][0]["axes"][2].update(scale=2.0),
        "is not the same as the input's axis",
    ),
    "a step we lack": (
        lambda v: first_input(v)["preprocessing"].append(
            {"id": "binarize", "kwargs": {"threshold": 1}}
        ),
        "has no counterpart here",
    ),
    "other statistics": (
        lambda v: first_input(v)["preprocessing"].insert(
            1, {"id": "zero_mean_unit_variance", "kwargs": {}}
        ),
        "is not over a whole raw image",
    ),
    "no test": (lambda v: first_input(v).pop("test_tensor"), "incomplete"),
    "another step": (
        lambda v: first_input(v)["preprocessing"].pop(),
        "differs by|has the shape",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_cannot_be_predicted_safely_is_refused_with_a_way_out(
    package, change, tmp_path, capsys
):
    act, words = CHANGES[change]
    path = package / RDF
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if change == "another step":
        # Without the clip, a bright image would be answered differently.
        image = np.load(package / INPUT)
        image[..., :20, :20] += 1e4
        np.save(package / INPUT, image)
        values["inputs"][0]["test_tensor"].pop("sha256")
    act(values)
    text = yaml.dump(values, Dumper=WithoutAliases, sort_keys=False)
    path.write_text(text, encoding="utf-8")

    code = main(["bundle", "import", str(package), "--out", str(tmp_path / "taken")])

    error = capsys.readouterr().err
    assert code in (2, 3), error
    assert any(word in error for word in words.split("|")), error
    assert not (tmp_path / "taken").exists()


class WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def test_a_changed_file_is_noticed(package, tmp_path):
    with (package / TORCHSCRIPT).open("ab") as file:
        file.write(b"x")

    with pytest.raises(FormatError, match="changed or damaged"):
        import_package(package, tmp_path / "taken")


def test_a_file_of_python_objects_is_no_test_tensor(package, tmp_path):
    np.save(package / OUTPUT, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    rewrite(package, lambda _: None)

    with pytest.raises(FormatError, match="is not an array"):
        import_package(package, tmp_path / "taken")


def write_onnx(path):
    """A network of one convolution and a sigmoid, of independent channels."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    random = np.random.default_rng(2)
    weight = random.normal(0, 1, (2, 1, 3, 3)).astype(np.float32)
    sides = ["n", "y", "x"]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w"], ["z"], pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", ["z"], ["p"]),
        ],
        "small",
        [
            helper.make_tensor_value_info(
                "image", kinds.FLOAT, [sides[0], 1, *sides[1:]]
            )
        ],
        [helper.make_tensor_value_info("p", kinds.FLOAT, [sides[0], 2, *sides[1:]])],
        [helper.make_tensor("w", kinds.FLOAT, weight.shape, weight.ravel())],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return weight


def test_onnx_with_independent_channels_and_a_fixed_size(package, tmp_path):
    """Windows of the one size that the network takes cover any image."""
    pytest.importorskip("onnxruntime")
    weight = torch.from_numpy(write_onnx(package / "model.onnx"))
    raw = np.random.default_rng(4).normal(0, 1, (1, 1, 64, 64)).astype(np.float32)

    def probs_of(image):
        return torch.nn.functional.conv2d(image, weight, padding=1).sigmoid()

    np.save(package / INPUT, raw)
    np.save(package / OUTPUT, probs_of(torch.from_numpy(raw)).numpy())

    def change(values):
        values["weights"] = {"onnx": {"source": "model.onnx", "opset_version": 17}}
        given, answer = values["inputs"][0], values["outputs"][0]
        given["preprocessing"], answer["postprocessing"] = [], []
        answer["axes"][1]["channel_names"] = ["inside", "edge"]
        for axis in given["axes"][2:]:
            axis["size"] = 64

    rewrite(package, change)

    taken = load_model(import_package(package, tmp_path / "taken"))

    assert taken.classes == ("background", "inside", "edge")
    array = np.random.default_rng(5).normal(0, 1, (1, 150, 90)).astype(np.float32)
    found = segment(Volume(array, None), taken, SegmentOptions(probs=True))
    # The network sees one pixel around each, so windows change nothing inside.
    probs = probs_of(torch.from_numpy(array)[:, None])[0].numpy()
    best, above = probs.argmax(0) + 1, probs.max(0) > 0.5
    expected = np.where(above, best, 0)[1:-1, 1:-1]
    np.testing.assert_array_equal(found.labels.array[0, 1:-1, 1:-1], expected)
    assert set(np.unique(expected)) == {0, 1, 2}


def test_an_export_writes_over_nothing(exported, package):
    with pytest.raises(ConfigError, match="exists already"):
        export_bioimageio(exported / "bundle", package)
    with pytest.raises(ConfigError, match="exists already"):
        import_package(package, package)


def test_the_test_input_comes_from_the_users_volume(tmp_path):
    bundle = small_bundle(tmp_path / "bundle", 3)
    array = np.random.default_rng(0).normal(100, 9, (70, 70, 70)).astype(np.float32)

    package = export_bioimageio(bundle, tmp_path / "out", Volume(array, None))

    np.testing.assert_array_equal(
        np.load(package / INPUT)[0, 0], array[3:67, 3:67, 3:67]
    )
    with pytest.raises(CellSegError, match="needs"):
        export_bioimageio(bundle, tmp_path / "small", Volume(array[:20], None))
