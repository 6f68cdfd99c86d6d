"""Touching objects are told apart, sizes are physical, and no id is lost."""

import json
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import edt
import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, gaussian_filter, label
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from cellseg3d.cli.main import main
from cellseg3d.core.errors import (
    AxisError,
    ConfigError,
    EnvironmentFault,
    LabelError,
    NonFiniteError,
)
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.targets import affinity_target, border_core_target
from cellseg3d.io.registry import (
    open_volume,
    read_labels,
    write_labels,
    write_volume,
)
from cellseg3d.metrics.object_scores import match_objects, object_scores
from cellseg3d.objects.dask_map import dask_map
from cellseg3d.objects.label import label_objects
from cellseg3d.objects.options import ObjectOptions

FLAT = Spacing(0.2, 0.1, 0.1)


def balls(shape, centres_um, radius_um, spacing=FLAT):
    """Ids of balls in physical space; a voxel belongs to the nearest centre."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    place = (grid + 0.5) * np.array(spacing.zyx)
    away = np.stack([np.linalg.norm(place - centre, axis=-1) for centre in centres_um])
    return np.where(away.min(0) <= radius_um, away.argmin(0) + 1, 0).astype(np.uint16)


@pytest.fixture(scope="module")
def lattice_of_balls():
    """2 x 3 x 4 balls of radius 1 um, each overlapping its neighbours by a tenth."""
    step = 1.8
    centres = [
        (1.3 + step * z, 1.3 + step * y, 1.3 + step * x)
        for z in range(2)
        for y in range(3)
        for x in range(4)
    ]
    return balls((22, 63, 80), centres, 1.0)


def f1(found, truth):
    scores = object_scores(match_objects(found.volume.array, truth))
    return scores["object_f1"]


def test_watershed_counts_touching_balls(lattice_of_balls):
    foreground = (lattice_of_balls > 0).astype(np.uint8)

    joined = label_objects(foreground, FLAT, "components")
    cut = label_objects(foreground, FLAT, "watershed", block=16)

    assert joined.count == 1
    assert cut.count == 24
    assert f1(cut, lattice_of_balls) == 1
    np.testing.assert_allclose(cut.volumes, 4 / 3 * np.pi, rtol=0.06)  # Cut caps.


def test_watershed_needs_the_true_spacing(lattice_of_balls):
    """As if voxels were cubes, balls are discs: the neck along z looks wide."""
    foreground = (lattice_of_balls > 0).astype(np.uint8)

    squeezed = label_objects(foreground, Spacing(0.02, 0.1, 0.1), "watershed")

    assert squeezed.count != 24


@pytest.mark.parametrize("depth_um", [None, 0.1])
@pytest.mark.parametrize("error", [1.2e-9, -1.2e-9, 5e-8, -5e-8])
def test_objects_do_not_hang_on_the_last_digits_of_the_spacing(error, depth_um):
    """TIFF and MRC keep 0.1 um as a fraction and in float32; many passes are ties."""
    noise = gaussian_filter(np.random.default_rng(0).random((24, 48, 48)), 1.5)
    foreground = (noise > np.quantile(noise, 0.7)).astype(np.uint8)
    edge = 0.1 * (1 + error)
    options = ObjectOptions(depth_um=depth_um)

    exact = label_objects(foreground, FLAT, options)
    rounded = label_objects(foreground, Spacing(0.2, edge, edge), options)

    assert exact.count > 20
    np.testing.assert_array_equal(rounded.volume.array, exact.volume.array)


def test_watershed_agrees_with_a_flooding_from_the_same_seeds(lattice_of_balls):
    foreground = (lattice_of_balls > 0).astype(np.uint8)
    depth = edt.edt(foreground, anisotropy=FLAT.zyx, black_border=False)
    seeds, _ = label(h_maxima(depth, 0.2))
    flooded = watershed(-depth, seeds, mask=foreground > 0)

    options = ObjectOptions(depth_um=0.2, neck=1.0)
    cut = label_objects(foreground, FLAT, options)

    scores = object_scores(match_objects(cut.volume.array, flooded), 0.95)
    assert scores["object_f1"] == 1


def test_mean_size_cuts_as_many_parts_as_means(lattice_of_balls):
    foreground = (lattice_of_balls > 0).astype(np.uint8)
    mean = foreground.sum() * FLAT.voxel_volume_um3 / 24
    options = ObjectOptions(method="mean-size", mean_volume_um3=mean)

    assert label_objects(foreground, FLAT, options).count == 24
    assert f1(label_objects(foreground, FLAT, options), lattice_of_balls) == 1


@pytest.mark.parametrize(("means", "parts"), [(1.4, 1), (1.6, 2), (2.4, 2), (2.6, 3)])
def test_mean_size_counts_one_and_a_half_means_as_two(means, parts):
    """As the write-up proposes, whatever the shape: three balls in a row."""
    row = balls((14, 28, 70), [(1.4, 1.4, 1.4 + 1.8 * k) for k in range(3)], 1.0)
    foreground = (row > 0).astype(np.uint8)
    mean = foreground.sum() * FLAT.voxel_volume_um3 / means

    found = label_objects(
        foreground, FLAT, ObjectOptions(method="mean-size", mean_volume_um3=mean)
    )

    assert found.count == parts


@pytest.mark.parametrize("block", [64, 13])
def test_targets_decode_to_the_objects_they_were_made_from(lattice_of_balls, block):
    border = border_core_target(lattice_of_balls, 0.2, FLAT)
    links = affinity_target(lattice_of_balls).astype(np.float32)

    from_border = label_objects(border, FLAT, "border-core", block=block)
    from_links = label_objects(links, FLAT, "affinity", block=block)

    assert f1(from_border, lattice_of_balls) == 1
    np.testing.assert_array_equal(
        from_links.volume.array, _by_first_voxel(lattice_of_balls)
    )


def _by_first_voxel(ids):
    values, first = np.unique(ids[ids > 0], return_index=True)
    table = np.zeros(int(ids.max()) + 1, np.int64)
    table[values[np.argsort(first)]] = np.arange(1, len(values) + 1)
    return table[ids]


def test_border_core_reads_three_probabilities(lattice_of_balls):
    border = border_core_target(lattice_of_balls, 0.2, FLAT)
    probs = np.stack([border == value for value in (0, 1, 2)]) * 0.6 + 0.2

    found = label_objects(probs.astype(np.float32), FLAT, "border-core")

    assert f1(found, lattice_of_balls) == 1


def test_weak_links_join_by_their_mean():
    links = affinity_target(np.ones((1, 8, 8), np.uint8)).astype(np.float32)
    links[1, :, 4] = 0.6  # Between the rows 3 and 4: weak, but mostly one object.
    one = ObjectOptions(method="affinity", merge_affinity=0.55)
    two = ObjectOptions(method="affinity", merge_affinity=0.65)

    assert label_objects(links, None, one).count == 1
    assert label_objects(links, None, two).count == 2


def test_small_objects_go_and_small_parts_join_their_neighbour():
    classes = np.zeros((1, 20, 40), np.uint8)
    classes[0, 4:14, 4:14] = 1
    classes[0, 2, 30:32] = 1
    options = ObjectOptions(method="components", min_volume_um3=0.006)

    kept = label_objects(classes, FLAT, options)
    gone = label_objects(
        classes, FLAT, ObjectOptions(method="components", min_volume_um3=0.004)
    )

    assert kept.volumes == pytest.approx([100 * 0.002])
    assert gone.volumes == pytest.approx([0.004, 0.2])  # Exactly the bound stays.


def test_holes_are_filled_up_to_their_size():
    classes = np.ones((9, 20, 20), np.uint8)
    classes[4, 5:7, 5:7] = 0  # 2 voxels wide: 0.2 um
    classes[4, 10:14, 10:14] = 0  # 4 voxels wide: 0.4 um
    classes[0, 0, 0] = 0  # At the border: not enclosed.
    options = ObjectOptions(method="components", hole_um=0.2)

    found = label_objects(classes, FLAT, options, block=6).volume.array

    expected = binary_fill_holes(classes)
    expected[4, 10:14, 10:14] = False
    np.testing.assert_array_equal(found > 0, expected)


def test_smoothing_removes_speckle_and_keeps_objects(lattice_of_balls):
    rng = np.random.default_rng(1)
    noisy = (lattice_of_balls > 0) ^ (rng.random(lattice_of_balls.shape) < 0.05)
    rough = label_objects(noisy.astype(np.uint8), FLAT)
    smooth = label_objects(
        noisy.astype(np.uint8), FLAT, ObjectOptions(smoothing_um=0.12)
    )

    assert f1(rough, lattice_of_balls) < 0.3
    assert f1(smooth, lattice_of_balls) > 0.9


def test_classes_are_never_joined():
    classes = np.array([[[1, 1, 2, 2, 0, 2]]], np.uint8)

    found = label_objects(classes, None, "watershed")

    np.testing.assert_array_equal(found.volume.array, [[[1, 1, 2, 2, 0, 3]]])
    np.testing.assert_array_equal(found.classes, [1, 2, 2])
    assert found.unit == "voxels"


def test_not_annotated_is_no_object():
    classes = np.array([[[255, 1, 255]]], np.uint8)

    found = label_objects(classes, None, "components")

    np.testing.assert_array_equal(found.volume.array, [[[0, 1, 0]]])


@pytest.mark.parametrize(
    ("objects", "dtype"), [(255, "uint8"), (256, "uint16"), (65536, "uint32")]
)
def test_ids_take_the_smallest_type_that_holds_them(objects, dtype):
    classes = np.zeros((1, 2, 2 * objects), np.uint8)
    classes[0, 0, ::2] = 1

    found = label_objects(classes, None, "components", block=(1, 2, 40000))

    assert found.volume.dtype == dtype
    np.testing.assert_array_equal(found.volume.array[0, 0, ::2], np.arange(objects) + 1)


def test_blocks_may_be_cut_by_other_processes(lattice_of_balls):
    foreground = (lattice_of_balls > 0).astype(np.uint8)
    alone = label_objects(foreground, FLAT)

    with ProcessPoolExecutor(2) as pool:
        shared = label_objects(foreground, FLAT, block=40, map_blocks=pool.map)

    np.testing.assert_array_equal(shared.volume.array, alone.volume.array)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lazy", [True, False])
def test_dask_workers_give_the_same_ids_though_one_dies(
    lazy, tmp_path, lattice_of_balls
):
    distributed = pytest.importorskip("distributed")
    volume = Volume((lattice_of_balls > 0).astype(np.uint8), FLAT)
    alone = label_objects(volume)
    write_labels(tmp_path / "fg.zarr", volume)
    source = open_volume(tmp_path / "fg.zarr") if lazy else volume
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    )

    with cluster, distributed.Client(cluster) as client:
        run = dask_map(client)

        def map_and_kill(function, items):
            for at, result in enumerate(run(function, items)):
                if at == 3 and lazy:
                    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
                yield result

        far = label_objects(
            source, block=17, map_blocks=map_and_kill, out=tmp_path / "ids.zarr"
        )

    np.testing.assert_array_equal(far.volume.read(), alone.volume.array)


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        (np.zeros((3, 3), np.uint8), "watershed", AxisError, "expected axes"),
        (np.zeros((2, 3, 3, 3), np.float32), "affinity", AxisError, "needs three"),
        (np.full((1, 2, 2), -1), "components", LabelError, "least label is -1"),
        (np.full((1, 2, 2), np.nan), "watershed", NonFiniteError, "4 prob"),
    ],
)
def test_unusable_input_is_refused(source, options, error, words):
    with pytest.raises(error, match=words):
        label_objects(source, None, options)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "magic"},
        {"neck": 0},
        {"min_volume_um3": -1},
        {"method": "mean-size"},
        {"necks": 1},
        {"connectivity": 8},
    ],
)
def test_unusable_options_are_refused(values):
    with pytest.raises(ConfigError):
        ObjectOptions.parse(values)


def test_options_survive_json():
    options = ObjectOptions(neck=0.8, depth_um=0.1)

    again = ObjectOptions.parse(json.loads(json.dumps(options.as_dict())))

    assert again == options


def test_objects_command_writes_ids_lazily_and_counts(
    tmp_path, capsys, lattice_of_balls
):
    source, out, table = tmp_path / "fg.tif", tmp_path / "ids.zarr", tmp_path / "o.json"
    write_volume(source, Volume((lattice_of_balls > 0).astype(np.uint8), FLAT))
    words = ["objects", str(source), "--out", str(out), "--json", str(table)]

    code = main([*words, "--block", "20", "--min-volume-um3", "0.5", "--workers", "2"])

    assert code == 0
    assert "24 objects" in capsys.readouterr().out
    ids = read_labels(out)
    assert f1(_Found(ids), lattice_of_balls) == 1
    assert ids.spacing.is_close(FLAT)
    assert open_volume(out).dtype == np.uint8
    assert json.loads(table.read_text())["objects"] == 24


@pytest.mark.filterwarnings("ignore")
def test_objects_command_works_on_a_cluster(tmp_path, capsys, lattice_of_balls):
    pytest.importorskip("distributed")
    source = tmp_path / "fg.zarr"
    write_labels(source, Volume((lattice_of_balls > 0).astype(np.uint8), FLAT))
    words = ["objects", str(source), "--out"]

    here = main([*words, str(tmp_path / "here.tif")])
    far = main(
        [*words, str(tmp_path / "far.tif"), "--dask", "local:2", "--block", "24"]
    )

    assert here == far == 0
    assert capsys.readouterr().out.count("24 objects") == 2
    one, two = (read_labels(tmp_path / f"{name}.tif") for name in ("here", "far"))
    np.testing.assert_array_equal(one.array, two.array)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--dask", "local:none"), 3, "expected local:N"),
        (("--dask", "local:2", "--workers", "2"), 3, "contradict"),
    ],
)
def test_objects_command_refuses_clusters_it_cannot_make(
    tmp_path, capsys, more, code, said
):
    source = tmp_path / "fg.tif"
    write_labels(source, Volume(np.ones((2, 3, 4), np.uint8), FLAT))

    assert (
        main(["objects", str(source), "--out", str(tmp_path / "o.tif"), *more]) == code
    )
    assert said in capsys.readouterr().err


def test_objects_command_puts_probabilities_into_their_classes_order(
    tmp_path, capsys, lattice_of_balls
):
    """A shell's * sorts border before core."""
    border = border_core_target(lattice_of_balls, 0.0, FLAT)
    for value, name in enumerate(("background", "core", "border")):
        probs = np.where(border == value, 250, 2).astype(np.uint8)
        write_volume(tmp_path / f"a_prob_{name}.tif", Volume(probs, FLAT))
    paths = sorted(map(str, tmp_path.glob("a_prob_*.tif")))

    assert main(["objects", *paths, "--out", str(tmp_path / "ids.tif")]) == 0
    assert "24 objects" in (said := capsys.readouterr().out)
    assert "border-core" in said


def test_a_core_must_be_as_sure_as_told():
    probs = np.zeros((3, 1, 1, 5), np.float32)
    probs[1, 0, 0] = [0.9, 0.9, 0.6, 0.9, 0.9]
    probs[2] = 1 - probs[1]

    def count(threshold):
        options = ObjectOptions(method="border-core", core_threshold=threshold)
        return label_objects(probs, None, options).count

    assert [count(0.5), count(0.7)] == [1, 2]


def test_objects_command_knows_what_predict_calls_probabilities(
    tmp_path, capsys, lattice_of_balls
):
    source = tmp_path / "cell_prob_nucleus.tif"
    probs = np.where(lattice_of_balls > 0, 200, 40).astype(np.uint8)
    write_volume(source, Volume(probs, FLAT))
    words = ["objects", str(source), "--out", str(tmp_path / "ids.tif")]

    assert main(words) == 0
    assert "24 objects" in capsys.readouterr().out
    assert main([*words[:3], str(tmp_path / "labels.tif"), "--labels"]) == 0
    assert "24 objects" not in capsys.readouterr().out


class _Found:
    def __init__(self, volume):
        self.volume = volume


DATA = os.environ.get("CELLSEG3D_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="CELLSEG3D_DATA is not set")


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", ["1135", "1136"])
def test_touching_ovule_nuclei_are_separated(name):
    path = f"{DATA}/ovule_nuclei/{name}_mini.h5"
    truth = read_labels(path, inner="label").array
    foreground = (truth > 0).astype(np.uint8)
    spacing = Spacing(0.2837, 0.127, 0.127)

    joined = f1(label_objects(foreground, spacing, "components"), truth)
    cut = f1(label_objects(foreground, spacing, "watershed"), truth)

    assert joined < 0.97
    assert cut == 1


@pytest.mark.data
@needs_data
def test_touching_dsb2018_nuclei_are_separated():
    masks = sorted(Path(DATA, "dsb2018", "masks").iterdir())
    joined, cut = [], []
    for path in masks:
        truth = read_labels(path).array
        foreground = (truth > 0).astype(np.uint8)
        joined.append(f1(label_objects(foreground, None, "components"), truth))
        cut.append(f1(label_objects(foreground, None, "watershed"), truth))

    assert len(masks) == 100
    assert np.mean(joined) < 0.93
    assert np.mean(cut) > 0.95


@pytest.mark.data
@needs_data
def test_dense_neurites_are_separated_along_links():
    """Foreground is everywhere: only links (or borders) can tell neurites apart."""
    truth = read_labels(f"{DATA}/fib25_neurons/z000-079_label.tif").array
    spacing = Spacing(0.01, 0.01, 0.01)
    foreground = (truth > 0).astype(np.uint8)
    links = affinity_target(truth).astype(np.float32)

    joined = f1(label_objects(foreground, spacing, "components"), truth)
    cut = f1(label_objects(links, spacing, "affinity"), truth)

    assert joined < 0.05
    assert cut > 0.9


def test_a_file_that_appeared_while_objects_were_found_is_kept(tmp_path):
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    out = tmp_path / "found.tif"

    def with_a_rival(work, pieces):
        out.write_bytes(b"of another process")
        return map(work, pieces)

    with pytest.raises(EnvironmentFault, match=r"found\.tif: another process wrote it"):
        label_objects(labels, FLAT, "components", out=out, map_blocks=with_a_rival)

    assert out.read_bytes() == b"of another process"
    assert [path.name for path in tmp_path.iterdir()] == ["found.tif"]


def test_a_file_that_was_there_at_the_beginning_is_replaced(tmp_path):
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    out = tmp_path / "found.tif"
    out.write_bytes(b"old")

    found = label_objects(labels, FLAT, "components", out=out)

    assert found.count == 1
    np.testing.assert_array_equal(found.volume.read(), labels)
    assert found.volume.provenance["object_ids"] is True
