import json
import subprocess
import sys

import pytest

from cellseg3d.cli.main import main
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import open_volume


def test_it_writes_a_data_set_and_says_where(tmp_path, capsys):
    out, table = tmp_path / "set", tmp_path / "table.json"

    words = [
        "simulate",
        "--n",
        "2",
        "--shape",
        "32,36,40",
        "--seed",
        "3",
        "--voxel-um",
        "0.06",
    ]

    code = main([*words, "--out", str(out), "--json", str(table)])

    assert code == 0
    printed = capsys.readouterr().out
    assert "cell_001" in printed
    assert str(out / "datalist.json") in printed.replace("\n", "")
    cases = load_datalist(out).cases
    volumes = [open_volume(case.image) for case in cases]
    assert [volume.shape for volume in volumes] == [(32, 36, 40)] * 2
    assert volumes[1].provenance["seed"] == 4
    assert volumes[0].spacing.z == pytest.approx(0.06)
    rows = json.loads(table.read_text())
    assert rows["cases"]["cell_000"]["volumes_um3"]["nucleus"] > 0
    assert rows["datalist"] == str(out / "datalist.json")


def test_the_scan_can_be_chosen(tmp_path):
    words = [
        "simulate",
        "--n",
        "1",
        "--shape",
        "32",
        "--mount",
        "grid",
        "--tilt-range",
        "-50",
        "55",
        "--tilt-step",
        "5",
        "--photons",
        "800",
    ]

    code = main([*words, "--out", str(tmp_path)])

    assert code == 0
    notes = open_volume(tmp_path / "cell_000.mrc").provenance
    assert notes["mount"] == "grid"
    assert list(notes["tilt_range_deg"]) == [-50, 55]
    assert notes["tilt_step_deg"] == 5
    assert notes["photons"] == 800


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--shape", "big"], 3, "--shape big: expected one number, or Z,Y,X"),
        (["--shape", "8"], 3, "at least 24 voxels"),
        (["--mount", "mixed", "--photons", "9"], 3, "--mount mixed"),
        (["--tilt-range", "60", "-60"], 3, "tilt range is 60 to -60"),
        (["--mount", "slide"], 2, "slide"),
        (["--n", "0"], 2, "--n"),
    ],
)
def test_mistakes_are_answered_in_one_line(tmp_path, capsys, words, code, message):
    out = tmp_path / "set"

    found = main(["simulate", "--out", str(out), *words])

    error = capsys.readouterr().err
    assert found == code
    assert message in error
    assert not list(out.glob("*.mrc"))


def test_no_deep_learning_stack_is_loaded(tmp_path):
    script = (
        "import sys; from cellseg3d.cli.main import main; "
        f"main(['simulate', '--n', '1', '--shape', '24', '--out', {str(tmp_path)!r}]); "
        "print([m for m in ('torch', 'monai', 'ignite') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip().endswith("[]")
    assert (tmp_path / "datalist.json").is_file()
