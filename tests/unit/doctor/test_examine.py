"""Each fault a data set can have is planted and must be told."""

import json
import os
import re

import nibabel
import numpy as np
import pytest
import tifffile

from cellseg3d.core.errors import InputError
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.doctor.examine import (
    diagnose,
    examine,
    examine_before_training,
    pair_datalist,
)
from cellseg3d.doctor.findings import parted
from cellseg3d.doctor.orientation import guess_turn
from cellseg3d.doctor.repair import repair
from cellseg3d.io.registry import read_labels, read_volume

SHAPE = (12, 20, 28)


def cell(seed=0, shape=SHAPE):
    """Return an image with one off-centre box, and its label."""
    random = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    z, y, x = (size // 4 + seed % 2 for size in shape)
    label[z : z + 3, y : y + 6, 2 : x + 3] = 1
    image = 100 + 50 * label + random.normal(0, 3, shape)
    return image.astype(np.float32), label


@pytest.fixture
def two_cells(write_pair, write_list):
    """Write two sound pairs, changed by a function; return the datalist."""

    def write(change=None, classes=("background", "cell"), **more):
        cases = []
        for seed, stem in enumerate(("a", "b")):
            image, label = cell(seed)
            if change is not None and stem == "a":
                image, label = change(image, label)
            paths = write_pair(stem, image, label)
            names = {"image": paths[0].name, "label": paths[1].name}
            cases.append({**names, "name": stem, "group": stem})
        more = {"spacing_um": [0.1, 0.1, 0.1], **more}
        return write_list(cases, classes, **more)

    return write


def told(findings, kind):
    return [finding for finding in findings if finding.kind == kind]


def only(findings, kind, severity="error"):
    """Return the one finding; nothing else of that severity may have been told."""
    same = [finding for finding in findings if finding.severity == severity]
    assert [finding.kind for finding in same] == [kind]
    return same[0]


def test_sound_data_is_left_in_peace(two_cells):
    assert diagnose(two_cells()) == []


def spoil_image(value):
    def change(image, label):
        image[1, 2, 3:6] = value
        return image, label

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_counted_and_placed(two_cells, value):
    found = only(diagnose(two_cells(spoil_image(value))), "image not finite")

    assert "3 voxels" in found.cause
    assert "(z=1, y=2, x=3)" in found.cause
    assert found.file.endswith("a_image.tif")
    assert found.case == "a"


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (
            lambda im, lb: (im, lb * np.uint8(255)),
            "0/255 label",
            r"only 0 and 255 \(\d+",
        ),
        (
            lambda im, lb: (im, lb * np.uint8(7)),
            "unexpected values",
            r"7 \(\d+ voxels\)",
        ),
        (
            lambda im, lb: (im, lb * np.int16(-3)),
            "unexpected values",
            r"-3 \(\d+ voxels\)",
        ),
        (
            lambda im, lb: (im, lb * np.float32(0.4)),
            "fractional label values",
            r"^\d+ label values are not whole numbers",
        ),
        (
            lambda im, lb: (im, np.where(lb, np.nan, lb).astype(np.float32)),
            "label not finite",
            r"^\d+ voxels are NaN",
        ),
        (
            lambda im, lb: (im, lb.transpose(2, 1, 0).copy()),
            "transposed label",
            r"if its axes are read as xyz",
        ),
        (lambda im, lb: (im, lb[:-1]), "shape", r"\(11, 20, 28\).*\(12, 20, 28\)"),
    ],
)
def test_a_wrong_label_is_an_error_of_its_file(two_cells, change, kind, words):
    found = told(diagnose(two_cells(change)), kind)

    assert [finding.severity for finding in found] == ["error"]
    assert found[0].file.endswith("a_label.tif")
    assert re.search(words, f"{found[0].cause}; {found[0].way_out}")
    assert found[0].way_out


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda im, lb: (np.full_like(im, 4), lb), "constant image"),
        (lambda im, lb: (im, lb * np.uint8(0)), "empty label"),
        (lambda im, lb: (im, np.full_like(lb, 255)), "0/255 label"),
        (lambda im, lb: (im, lb.astype(np.float32)), "label stored as float"),
        (lambda im, lb: (im + 9000, lb), "intensity far off"),
        (lambda im, lb: (im, lb[:, :, ::-1].copy()), "turned label"),
    ],
)
def test_what_is_odd_is_told_of_its_file(two_cells, change, kind):
    found = told(diagnose(two_cells(change)), kind)

    assert [finding.case for finding in found][:1] == ["a"]


def test_a_mirrored_label_is_guessed_with_its_axis(two_cells):
    listed = two_cells(lambda image, label: (image, label[:, :, ::-1].copy()))

    found = told(diagnose(listed), "turned label")

    assert found[0].severity == "warning"
    assert "a guess" in found[0].cause
    assert "mirrored along x" in found[0].cause


def test_every_broken_file_is_named_at_once(two_cells, tmp_path):
    listed = two_cells()
    for name in ("a_image.tif", "b_label.tif"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])

    errors = [f for f in diagnose(listed) if f.severity == "error"]

    names = {finding.file.rsplit("/", 1)[-1] for finding in errors}
    assert {"a_image.tif", "b_label.tif"} <= names


def test_missing_files_and_misspelt_keys_do_not_hide_each_other(two_cells):
    listed = two_cells()
    values = json.loads(listed.read_text())
    good = values["cases"][0]
    values["cases"] = [{**good, "imag": 1}, good, {**good, "image": "gone.tif"}]
    listed.write_text(json.dumps(values))

    lines = [finding.line for finding in diagnose(listed)]

    assert any("case 0: unknown key 'imag'" in line for line in lines)
    assert any("case 2: image" in line and "gone.tif" in line for line in lines)


def test_files_without_partner_are_each_named(write_pair, tmp_path):
    for seed, stem in enumerate(("a", "b")):
        write_pair(stem, *cell(seed))
    write_pair("lonely", cell()[0], None)
    write_pair("orphan", None, cell()[1])

    found = told(diagnose(tmp_path), "unpaired name")

    assert [f.file.rsplit("/", 1)[-1] for f in found] == [
        "lonely_image.tif",
        "orphan_label.tif",
    ]


def test_a_folder_with_one_bad_label_is_read_all_the_same(write_pair, tmp_path):
    write_pair("a", *cell(0))
    image, label = cell(1)
    write_pair("b", image, label * np.float32(0.5))

    found = diagnose(tmp_path)

    assert [f.case for f in told(found, "fractional label values")] == ["b"]


def test_the_same_volume_in_two_groups_is_an_error(two_cells, tmp_path):
    listed = two_cells()
    (tmp_path / "b_image.tif").write_bytes((tmp_path / "a_image.tif").read_bytes())

    found = only(diagnose(listed), "duplicate content")

    assert "a_image.tif" in found.cause


def test_slices_that_two_groups_share_are_counted(write_pair, write_list):
    image, label = cell(shape=(16, 20, 28))
    cases = []
    for stem, part in (("a", slice(0, 12)), ("b", slice(8, 16))):
        paths = write_pair(stem, image[part], label[part])
        cases.append(
            {"name": stem, "image": str(paths[0]), "label": str(paths[1])},
        )

    found = told(diagnose(write_list(cases)), "shared slices")

    assert "shares 4 slices" in found[0].cause


def test_a_gap_in_the_values_is_answered_with_its_map(two_cells):
    listed = two_cells(
        lambda image, label: (image, np.where(image > 180, 4, label).astype(np.uint8)),
        classes=("background", "cell", "spot"),
    )
    image = tifffile.imread(listed.parent / "a_image.tif")
    label = np.where(np.arange(image.size).reshape(SHAPE) % 97 == 0, 4, 1)
    tifffile.imwrite(listed.parent / "a_label.tif", label.astype(np.uint8))

    found = told(diagnose(listed), "gaps in label values")

    assert "values are 1, 4" in found[0].cause
    assert '"label_map": {"1": 1, "4": 2}' in found[0].way_out


def test_classes_that_never_occur_are_named(two_cells):
    found = diagnose(two_cells(classes=("background", "cell", "vacuole")))

    assert "vacuole" in only(found, "class never seen", "warning").cause


def test_spacing_of_label_and_image_is_compared_beside_the_shape(tmp_path):
    paths = []
    for name, array, step in (("i", cell()[0], 0.1), ("l", cell()[1][:-1], 0.2)):
        path = tmp_path / f"{name}.tif"
        resolution = (1e4 / step, 1e4 / step)
        tifffile.imwrite(
            path,
            array,
            imagej=True,
            resolution=resolution,
            metadata={"spacing": step, "unit": "um", "axes": "ZYX"},
        )
        paths.append(str(path))

    kinds = {f.kind for f in diagnose(pair_datalist(*paths, 2))}

    assert {"shape", "spacing"} <= kinds


def test_a_case_is_read_again_only_when_its_bytes_change(
    two_cells, tmp_path, monkeypatch
):
    listed, cache = two_cells(), tmp_path / "cache"
    first = examine(listed, cache_dir=cache)

    with monkeypatch.context() as patch:
        patch.delattr("cellseg3d.doctor.examine.check_case")
        again = examine(listed, cache_dir=cache)
        assert again.reports == first.reports
        image, _ = spoil_image(np.nan)(*cell(0))
        tifffile.imwrite(listed.parent / "a_image.tif", image)
        with pytest.raises(NameError):
            examine(listed, cache_dir=cache)

    assert told(diagnose(listed, cache_dir=cache), "image not finite")


def test_a_training_is_refused_for_errors_and_told_of_warnings(two_cells, tmp_path):
    cache = tmp_path / "cache"
    listed = two_cells(lambda image, label: (image + 9000, label))
    lines = examine_before_training(listed, cache_dir=cache)
    assert len(lines) == 2  # each of two is far from the other
    assert all("far from the other images" in line for line in lines)

    broken = two_cells(spoil_image(np.nan))
    with pytest.raises(InputError, match=r"a_image\.tif: 3 voxels are NaN"):
        examine_before_training(broken, cache_dir=cache)


def test_repair_writes_what_needs_no_guess_and_touches_nothing(two_cells, tmp_path):
    def change(image, label):
        image[1, 2, 3:6] = np.nan
        return image, (label * np.float32(255)).transpose(2, 0, 1).copy()

    listed = two_cells(change)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    image, label = cell(0)

    done = repair(examine(listed), tmp_path / "out")

    assert {path: path.read_bytes() for path in before} == before
    fixed = load_datalist(done.datalist)
    assert diagnose(done.datalist) == []
    np.testing.assert_array_equal(read_labels(fixed.cases[0].label).read(), label)
    spoilt = image.copy()
    spoilt[1, 2, 3:6] = np.nan
    image[1, 2, 3:6] = np.nanmedian(spoilt)
    np.testing.assert_array_equal(read_volume(fixed.cases[0].image).read(), image)
    log = json.loads((tmp_path / "out" / "fixes.json").read_text())
    changes = {
        entry["change"].split(" ")[0]: entry["voxels"] for entry in log["changes"]
    }
    assert changes == {
        "NaN": 3,
        "float32": label.size,
        "255": int(label.sum()),
        "axes": 0,
    }


def test_repair_keeps_the_channel_that_the_datalist_names(write_list, tmp_path):
    image, label = cell()
    image[1, 2, 3:6] = np.nan
    channels = np.stack([np.zeros_like(image), image], axis=1)
    tifffile.imwrite(
        tmp_path / "a.tif", channels, imagej=True, metadata={"axes": "ZCYX"}
    )
    tifffile.imwrite(tmp_path / "a_label.tif", label)
    case = {"name": "a", "image": "a.tif", "label": "a_label.tif", "channel": 1}
    listed = write_list([case], ("background", "cell"), spacing_um=[0.1, 0.1, 0.1])

    done = repair(examine(listed), tmp_path / "out")

    [fixed] = load_datalist(done.datalist).cases
    image[1, 2, 3:6] = np.nanmedian(image)
    found = read_volume(fixed.image, **fixed.opening).read()
    np.testing.assert_array_equal(found, image)


def test_repair_writes_both_files_in_order_where_axes_are_named(write_list, tmp_path):
    image, label = cell()
    image[1, 2, 3:6] = np.nan
    for name, array in (("a.tif", image), ("a_label.tif", label)):
        tifffile.imwrite(
            tmp_path / name, array.transpose(2, 1, 0).copy(), photometric="minisblack"
        )
    case = {"name": "a", "image": "a.tif", "label": "a_label.tif", "read_as": "xyz"}
    listed = write_list([case], ("background", "cell"), spacing_um=[0.1, 0.1, 0.1])

    done = repair(examine(listed), tmp_path / "out")

    [fixed] = load_datalist(done.datalist).cases
    image[1, 2, 3:6] = np.nanmedian(image)
    found = read_volume(fixed.image, **fixed.opening).read()
    np.testing.assert_array_equal(found, image)
    labels = read_labels(fixed.label, read_as=fixed.read_as).read()
    np.testing.assert_array_equal(labels, label)


def test_repair_closes_gaps_and_leaves_out_what_it_would_have_to_guess(
    two_cells, tmp_path
):
    listed = two_cells(lambda image, label: (image[:-1], label * np.uint8(5)))
    _, label = cell(1)
    tifffile.imwrite(tmp_path / "b_label.tif", label * np.uint8(5))

    done = repair(examine(listed), tmp_path / "out")

    assert [entry["case"] for entry in done.left_out] == ["a"]
    values = json.loads(done.datalist.read_text())
    assert [case["name"] for case in values["cases"]] == ["b"]


def test_each_file_that_is_not_what_it_says_is_named(tmp_path, write_list):
    image, label = cell()
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "whole.nii.gz")
    tifffile.imwrite(tmp_path / "whole.tif", image)
    tifffile.imwrite(tmp_path / "label.tif", label)
    whole = {s: (tmp_path / f"whole{s}").read_bytes() for s in (".nii.gz", ".tif")}
    broken = {
        "cut.nii.gz": whole[".nii.gz"][:-200],
        "cut.tif": whole[".tif"][: len(whole[".tif"]) // 2],
        "empty.tif": b"",
        "page.tif": b"<!DOCTYPE html><html></html>",
        "pointer.tif": b"version https://git-lfs.github.com/spec/v1\n",
        "renamed.tif": whole[".nii.gz"],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    colours = np.zeros((20, 28, 3), np.uint8)
    tifffile.imwrite(tmp_path / "colour.tif", colours, photometric="rgb")
    names = [*broken, "colour.tif"]
    cases = [{"name": n, "image": n, "label": "label.tif", "group": n} for n in names]

    errors = [f for f in diagnose(write_list(cases)) if f.severity == "error"]

    assert {finding.case for finding in errors} == set(names)
    assert all(finding.way_out for finding in errors)
    causes = {finding.case: finding.line for finding in errors}
    assert "git lfs pull" in causes["pointer.tif"]
    assert "HTML" in causes["page.tif"]
    assert "0 bytes" in causes["empty.tif"]


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["ovule_nuclei", "ovule_cells", "qcanet_embryo", "vnc_sstem"]
)
def test_real_pairs_are_sound_and_their_mirror_images_are_not(name):
    place = os.environ.get("CELLSEG3D_DATA")
    if not place:
        pytest.skip("CELLSEG3D_DATA names no folder of real data")
    datalist = load_datalist(f"{place}/{name}")

    findings = diagnose(datalist)

    kinds = {finding.kind for finding in findings}
    ids = {"perhaps object ids"} if name == "qcanet_embryo" else set()
    assert kinds <= {"spacing", "folds"} | ids
    assert kinds >= ids
    case = datalist.cases[0]
    image, label = read_volume(case.image).read(), read_labels(case.label).read()
    assert str(guess_turn(image, label[:, :, ::-1])) == "mirrored along x"


def labelled_slices(numbers, taper=False):
    """Return an image of boxes through all slices, labelled in some of them."""
    image, label = np.full((40, 24, 24), 100.0), np.zeros((40, 24, 24), np.uint8)
    for z in range(40):
        half = 8
        if taper:
            near = min(abs(z - number) for number in numbers)
            half = max(0, 4 - near) * 2
        if not taper and z not in numbers:
            continue
        label[z, 12 - half : 12 + half, 12 - half : 12 + half] = 1
    image += 50 * label + np.random.default_rng(0).normal(0, 3, image.shape)
    return image.astype(np.float32), label


@pytest.mark.parametrize("numbers", [(5, 20, 31), (20,), (0, 10, 39)])
def test_slices_that_were_not_labelled_are_asked_for(two_cells, numbers):
    data = two_cells(lambda *_: labelled_slices(numbers))

    finding = only(diagnose(data), "slices without labels", "warning")

    assert f"{len(numbers)} of 40 slices ({', '.join(map(str, numbers))})" in (
        finding.cause
    )
    assert "`annotated_slices`" in finding.way_out


@pytest.mark.parametrize(
    ("numbers", "taper"), [((5, 30), True), (range(40), False), ((18, 19, 20), False)]
)
def test_objects_that_end_are_no_missing_slices(two_cells, numbers, taper):
    data = two_cells(lambda *_: labelled_slices(tuple(numbers), taper=taper))

    assert not told(diagnose(data), "slices without labels")


def test_slices_that_are_said_to_be_annotated_are_not_asked_for(two_cells):
    data = two_cells(
        lambda *_: labelled_slices((5, 20, 31)), annotated_slices="labelled"
    )

    assert not told(diagnose(data), "slices without labels")


def test_a_way_out_keeps_its_second_half():
    found = parted("holds 0, 255; expected 0, 1; if 255 is it, map it; if not, no")

    assert found == (
        "holds 0, 255; expected 0, 1",
        "if 255 is it, map it; if not, no",
    )


def test_a_repair_that_fails_leaves_nothing(write_pair, write_list, tmp_path):
    image, label = cell()
    paths = write_pair("a", image, label + 0.5)
    names = {"image": paths[0].name, "label": paths[1].name}
    data = write_list([names], ("background", "cell"), spacing_um=[0.1, 0.1, 0.1])
    out = tmp_path / "out"

    with pytest.raises(InputError, match="no case can be repaired"):
        repair(examine(data), out)

    assert not out.exists()


def test_a_doubled_slice_is_told_and_constant_ones_are_not(two_cells):
    def change(image, label):
        image[4] = image[3]
        image[7:10] = 5
        return image, label

    finding = only(diagnose(two_cells(change)), "doubled slice", "warning")

    assert "1 slice is the same as the one before (4)" in finding.cause
