import pytest

from cellseg3d.benchmark.study import load_study
from cellseg3d.core.errors import ConfigError


def test_every_cell_of_the_matrix_comes_once_seeds_outermost(study_path):
    jobs = list(load_study(study_path).jobs())

    keys = [job.key for job in jobs]
    assert len(set(keys)) == len(keys) == 2 * 2 * 3
    assert keys[:3] == [
        f"balls_{m}_fold0_seed0_0.01min" for m in ("2D", "2.5D", "fused")
    ]
    assert [job.seed for job in jobs] == [0] * 6 + [1] * 6


def test_what_is_used_is_trained_before_it_is_used(study_path):
    study = load_study(study_path)

    names = [method.name for method in study.methods]
    assert study.method("fused").kind == "axes"
    assert names.index("2D") < names.index("fused")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("minutes:", "minuets:", "did you mean 'minutes'"),
        ("of: 2D,", "of: 3D,", "'3D', which no method before it trains"),
        ("name: 2.5D,", "name: 2D,", "'2D' occurs twice"),
        ("minutes: 0.01", "minutes: -1", "expected a positive number"),
        ("bundle: cell_tomo_unet2d", "peer: nnunet3d_fullres", "'nnunet-3d_fullres'?"),
        ("target: ball,", "", "'target' is missing"),
        ("minutes: 0.01", "minutes: [1, 1]", "minutes '1' occurs twice"),
        (
            "tests: [a, [b, c]]",
            "tests: [a], validate: [b, c]",
            "validate has 2 entries",
        ),
        ("bundle: cell_tomo_unet2d", "peer: monai-2d, set: {crop: 1}", "'crops'"),
        ("seeds: [0, 1]", "seeds: []", "'seeds' is missing or empty"),
        ("set: {", "sets: {", "did you mean 'set'"),
    ],
)
def test_a_wrong_study_is_refused_with_the_way_out(study_path, old, new, said):
    study_path.write_text(study_path.read_text().replace(old, new, 1))

    with pytest.raises(ConfigError, match="study") as caught:
        load_study(study_path)

    assert said in str(caught.value)


def test_pairs_are_named_beforehand_each_once(study_path):
    text = study_path.read_text() + "compare: [[fused, 2.5D], [fused, 2D]]\n"
    study_path.write_text(text)

    pairs = load_study(study_path).pairs

    assert pairs == (("2.5D", "2D"), ("fused", "2D"), ("fused", "2.5D"))


def test_a_pair_named_the_other_way_round_is_tested_once(study_path):
    study_path.write_text(study_path.read_text() + "compare: [[2D, fused]]\n")

    assert load_study(study_path).pairs == (("2.5D", "2D"), ("2D", "fused"))


def test_a_pair_of_an_unknown_method_is_refused(study_path):
    study_path.write_text(study_path.read_text() + "compare: [[fused, 25D]]\n")

    with pytest.raises(ConfigError, match="did you mean"):
        load_study(study_path)


def test_the_first_method_is_the_reference_unless_one_is_named(study_path):
    assert load_study(study_path).reference.name == "2D"

    text = study_path.read_text().replace("axes: zyx", "axes: zyx, reference: true")
    study_path.write_text(text)

    assert load_study(study_path).reference.name == "fused"


def test_waves_and_budgets_take_the_data_sets_in_turn(study_path):
    text = study_path.read_text().replace("minutes: 0.01", "minutes: [2, 1]")
    text = text.replace("name: 2.5D,", "name: 2.5D, wave: 1,")
    text = text.replace("name: fused,", "name: fused, wave: 1,")
    again = "  - {name: more, datalist: list.json, target: ball, tests: [a]}\nmethods:"
    study_path.write_text(text.replace("methods:", again))

    keys = [job.key for job in load_study(study_path).jobs() if job.seed == 0]

    first = ["balls_2D", "more_2D"]
    first += ["balls_2.5D", "balls_fused", "more_2.5D", "more_fused"]
    wanted = [f"{n}_fold0_seed0_{m}min" for m in (2, 1) for n in first]
    assert keys[:12] == wanted
    assert all("balls" in key and "fold1" in key for key in keys[12:])
