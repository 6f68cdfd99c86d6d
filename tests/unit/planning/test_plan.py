"""Numbers follow from the data and the machine, and a bundle takes them."""

import math

import numpy as np
import pytest

from cellseg3d.bundle.compose import override, read_config
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.resolve import resolve_config
from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.planning.files import plan_text
from cellseg3d.planning.machine import Machine, StepCost, measure_step
from cellseg3d.planning.plan import make_plans
from cellseg3d.planning.survey import ClassFacts, Survey, survey
from cellseg3d.runs.folder import create_run
from cellseg3d.runs.options import TrainOptions

FACTS = ModelFacts(("background", "cell"), (0.3, 0.1, 0.1))
CPU = Machine(2, 16 * 2**30)
GPU = Machine(16, 64 * 2**30, "a GPU", 80 * 2**30)


def data_of(shape=(64, 256, 256), spacing=(0.3, 0.1, 0.1), share=0.2, diameter=4.0):
    facts = ClassFacts("cell", share, 9, diameter)
    edges = Spacing(*spacing) if spacing else None
    return Survey("made up", 2, 2, (shape, shape), edges, (facts,), 1.0)


def fixed_cost(network_def, spec, batch):
    """A sample takes a microsecond and a kibibyte a voxel."""
    assert network_def["_target_"].endswith("network_for")
    assert network_def["facts"]["classes"] == list(FACTS.classes)
    assert batch >= 1
    voxels = math.prod(spec.patch_shape)
    return StepCost(1e-6 * voxels, 1024 * voxels, 2**20)


def plans_of(data, machine=CPU):
    return {plan.kind: plan for plan in make_plans(FACTS, data, machine, fixed_cost)}


def test_a_short_time_gets_patches_small_enough_for_300_steps():
    data = data_of((64, 256, 256))
    usual = plans_of(data)
    short = {
        plan.kind: plan
        for plan in make_plans(FACTS, data, CPU, fixed_cost, minutes=1.0)
    }

    # 256 x 256 x 8 samples take .52 s a step: 114 in a minute.
    assert usual["2D"].settings["spec::patch_shape"] == [256, 256]
    assert short["2D"].settings["spec::patch_shape"] == [160, 160]
    for kind, plan in short.items():
        voxels = math.prod(plan.settings["spec::patch_shape"])
        batch = plan.settings["train::dataloader::batch_size"]
        assert 60 / (1e-6 * voxels * batch) > 270, kind
    assert "300 steps" in short["3D"].choices[0].reason
    long = make_plans(FACTS, data, CPU, fixed_cost, minutes=60.0)
    assert [plan.settings for plan in long] == [
        usual[plan.kind].settings for plan in long
    ]


def test_a_ball_is_measured_in_micrometres(tmp_path):
    edges = (0.2, 0.1, 0.1)
    z, y, x = np.mgrid[:40, :60, :60]
    distance = [(z - 20) * 0.2, (y - 30) * 0.1, (x - 25) * 0.1]
    label = (np.linalg.norm(distance, axis=0) < 1.5).astype(np.uint8)
    label[:, :, 55:] = 255
    label[0, 0, 0] = 1  # touches the border: is counted, not measured
    write_labels(tmp_path / "l.tif", Volume(label, Spacing(*edges)))
    write_volume(tmp_path / "i.tif", Volume(label, Spacing(*edges)))
    case = Case("c", str(tmp_path / "i.tif"), str(tmp_path / "l.tif"), "c")

    seen = survey(Datalist("d", ("background", "cell"), None, (case,)))

    assert seen.spacing.zyx == pytest.approx(edges)
    assert seen.classes[0].diameter == pytest.approx(3.0, rel=0.02)
    assert seen.classes[0].objects == 2
    assert seen.annotated == pytest.approx(55 / 60)
    assert seen.classes[0].share == pytest.approx(
        (label == 1).sum() / (label < 2).sum()
    )


def test_two_classes_of_the_balls_are_found(balls):
    seen = survey(load_datalist(balls))

    assert [each.name for each in seen.classes] == ["shell", "core"]
    assert seen.cases == 3
    # radius 0.2 of 24 voxels of 0.05 um
    assert seen.classes[1].diameter == pytest.approx(2 * 0.2 * 24 * 0.05, rel=0.1)


def test_slices_are_cut_across_the_longest_edge():
    for spacing, axis in (
        ((0.3, 0.1, 0.1), "z"),
        ((0.1, 0.4, 0.1), "y"),
        ((0.1, 0.1, 0.2), "x"),
        ((0.11, 0.1, 0.1), "z"),
        (None, "z"),
    ):
        plan = plans_of(data_of((200, 200, 200), spacing))["2D"]
        assert plan.settings["spec::axis"] == axis


def test_a_stack_is_thin_for_small_objects_and_bounded_for_large_ones():
    contexts = [
        plans_of(data_of(diameter=um))["2.5D"].settings["spec::context"]
        for um in (0.6, 2.4, 40.0)
    ]

    assert contexts == [1, 2, 3]


def test_rarer_objects_are_sought_more_often():
    shares = [
        plans_of(data_of(share=share))["3D"].settings["train::dataset::foreground"]
        for share in (0.7, 0.2, 0.01)
    ]

    assert shares == sorted(shares)
    assert len(set(shares)) == 3


def test_the_batch_grows_with_a_gpu_and_shrinks_when_memory_ends():
    key = "train::dataloader::batch_size"
    data = data_of()

    usual = plans_of(data)["3D"].settings[key]
    assert plans_of(data, GPU)["3D"].settings[key] > usual
    small = Machine(2, 2**20 * 600)
    shrunk = plans_of(data, small)
    assert shrunk["3D"].settings[key] < usual
    assert shrunk["3D"].gib <= 0.6


def test_minutes_are_steps_times_what_one_was_measured_to_take():
    plan = plans_of(data_of())["3D"]

    voxels = math.prod(plan.settings["spec::patch_shape"])
    batch = plan.settings["train::dataloader::batch_size"]
    assert plan.minutes == pytest.approx(plan.steps * batch * voxels * 1e-6 / 60)
    assert plan.steps == 50 * plan.settings["epochs"]


def test_larger_data_take_more_steps_up_to_a_bound():
    steps = [
        plans_of(data_of(shape))["3D"].steps
        for shape in ((32, 64, 64), (64, 900, 900), (900, 2000, 2000))
    ]

    assert steps == sorted(set(steps))
    assert steps[-1] == 5000


def test_thin_volumes_begin_with_2d_and_long_voxels_with_25d():
    for data, best in (
        (data_of((1, 256, 256)), "2D"),
        (data_of(spacing=(0.5, 0.1, 0.1)), "2.5D"),
        (data_of(), "3D"),
    ):
        advised = {
            k: p.advice.startswith("begin with this") for k, p in plans_of(data).items()
        }
        assert [kind for kind, chosen in advised.items() if chosen] == [best]


def test_every_plan_is_a_config_its_bundle_takes(tmp_path):
    data = data_of()
    for plan in plans_of(data).values():
        path = tmp_path / "plan.yaml"
        path.write_text(plan_text(plan, data, CPU, "--data D"))

        read = read_config(path)

        assert read == plan.settings
        config = read_config(find_bundle(plan.bundle) / "configs" / "train.json")
        spec = InputSpec.parse(override(config, read)["spec"])
        assert spec.kind == plan.kind
        for choice in plan.choices:
            assert f"# {choice.reason}\n{choice.key}:" in path.read_text()


def test_what_is_said_on_the_command_line_wins_over_the_plan():
    options = TrainOptions(
        epochs=3,
        settings={"spec::axis": "y"},
        plan={"epochs": 9, "spec::axis": "z", "a": 1},
    )

    assert {**options.overrides()} == {
        "epochs": 3,
        "spec::axis": "y",
        "a": 1,
        "progress": True,
    }


def test_a_step_costs_what_its_voxels_and_weights_do():
    config = find_bundle("cell_tomo_unet2d") / "configs" / "train.json"
    settings = {"facts": FACTS.as_dict()}
    block = resolve_config(config, settings, only=["network_def"])["network_def"]

    small, large = (
        measure_step(block, InputSpec(2, (side, side)), 2) for side in (64, 128)
    )

    assert 3.0 < large.sample_bytes / small.sample_bytes < 5.0
    assert large.fixed_bytes == small.fixed_bytes > 20_000
    assert 0 < small.sample_s < 10


@pytest.mark.parametrize(
    ("settings", "axis", "patch"),
    [({}, "x", [24, 32]), ({"spec::axis": "y"}, "y", [24, 16])],
)
def test_a_training_without_a_plan_cuts_across_the_longest_edge_too(
    tmp_path, settings, axis, patch
):
    label = np.zeros((24, 40, 16), np.uint8)
    label[6:18, 10:30, 4:12] = 1
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        volume = Volume(label, Spacing(0.1, 0.1, 0.3))
        write_labels(tmp_path / part / "a.tif", volume)

    config = create_run(
        find_bundle("cell_tomo_unet2d"),
        tmp_path,
        tmp_path / "run",
        TrainOptions(settings=settings),
    )

    spec = read_config(config)["spec"]
    assert spec["axis"] == axis
    assert spec["patch_shape"] == patch
