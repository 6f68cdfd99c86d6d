"""Scoring files: pairing, datalists, specimens, and faults of several volumes."""

import json
import math

import numpy as np
import pytest

from cellseg3d.core.errors import InputError
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels
from cellseg3d.scoring import evaluate
from cellseg3d.scoring.evaluate import ScoreOptions, evaluate_files
from cellseg3d.scoring.one_volume import score_volume
from cellseg3d.scoring.pairs import pair_paths
from cellseg3d.scoring.report import as_json, summaries


def save(path, array):
    path.parent.mkdir(exist_ok=True, parents=True)
    write_labels(path, Volume(np.asarray(array, np.uint16), Spacing(1, 1, 1)))
    return path


def half(value, voxels):
    """A row of 10 voxels, the first `voxels` of which have the value."""
    row = np.zeros((1, 1, 10), np.uint16)
    row[..., :voxels] = value
    return row


def datalist(folder, cases, **more):
    values = {"name": "set", "classes": ["background", "cell", "nucleus"], **more}
    path = folder / "datalist.json"
    path.write_text(json.dumps({**values, "cases": cases}))
    return path


def case(name, group, **more):
    files = {"image": f"{name}_image.tif", "label": f"{name}_label.tif"}
    return {"name": name, "group": group, **files, **more}


def test_volumes_of_one_specimen_are_averaged_first(tmp_path):
    cases = []
    for name, group, found in (("a", "one", 10), ("b", "two", 5), ("c", "two", 0)):
        save(tmp_path / "d" / f"{name}_image.tif", half(1, 10))
        save(tmp_path / "d" / f"{name}_label.tif", half(1, 10))
        save(tmp_path / "p" / f"{name}_image_labels.tif", half(1, found))
        cases.append(case(name, group))

    evaluation = evaluate_files(
        str(tmp_path / "p"), datalist=str(datalist(tmp_path / "d", cases))
    )

    recall = summaries(evaluation)["cell"]["recall"]
    assert recall.n == 2
    assert recall.mean == pytest.approx((1 + (0.5 + 0) / 2) / 2)
    assert "groups" in recall.note


def test_only_the_classes_that_a_truth_annotates_are_scored(tmp_path):
    save(tmp_path / "d" / "a_image.tif", half(2, 4))
    save(tmp_path / "d" / "a_label.tif", half(2, 4))
    save(tmp_path / "p" / "a.tif", half(1, 4))
    cases = [case("a", "a", annotated=["nucleus"])]

    scores = as_json(
        evaluate_files(
            str(tmp_path / "p"), datalist=str(datalist(tmp_path / "d", cases))
        )
    )

    assert set(scores["volumes"]["a"]) == {"nucleus"}
    assert scores["volumes"]["a"]["nucleus"]["dice"] == 0.0
    assert scores["voxels"]["a"]["accuracy"] is None


def test_object_ids_of_a_datalist_are_scored_as_objects(tmp_path):
    truth = half(300, 4) + half(7, 10) * (half(300, 4) == 0)
    save(tmp_path / "d" / "a_image.tif", truth)
    save(tmp_path / "d" / "a_label.tif", truth)
    save(tmp_path / "p" / "a.tif", np.where(truth == 300, 255, truth))
    options = ScoreOptions(ids=True)
    path = datalist(
        tmp_path / "d",
        [case("a", "a")],
        labels="objects",
        classes=["background", "c"],
    )

    evaluation = evaluate_files(
        str(tmp_path / "p"), datalist=str(path), options=options
    )

    assert evaluation.scored[0].objects["foreground"]["pq"] == 1.0
    assert evaluation.scored[0].annotated_voxels == 10


def test_every_faulty_volume_is_named_at_once(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / "t" / f"{name}.tif", half(1, 3))
        save(tmp_path / "p" / f"{name}.tif", half(1, 3)[..., : 5 if name < "c" else 10])

    with pytest.raises(InputError, match=r"2 volumes.*a\.tif.*b\.tif"):
        evaluate_files(str(tmp_path / "p"), str(tmp_path / "t"))


def test_two_files_of_one_stem_are_refused(tmp_path):
    for name in ("a_labels.tif", "a_pred.tif"):
        save(tmp_path / "p" / name, half(1, 3))
    save(tmp_path / "t" / "a.tif", half(1, 3))

    with pytest.raises(InputError, match=r"a_labels\.tif, a_pred\.tif"):
        pair_paths(str(tmp_path / "p"), str(tmp_path / "t"))


def test_images_beside_labels_stand_back(tmp_path):
    for name in ("a_image.tif", "a_label.tif"):
        save(tmp_path / "t" / name, half(1, 3))
    save(tmp_path / "p" / "a_image_labels.tif", half(1, 3))

    (pair,) = pair_paths(str(tmp_path / "p"), str(tmp_path / "t")).pairs

    assert pair.truth.endswith("a_label.tif")
    assert pair.name == "a"


def test_no_common_stem_is_refused_with_what_was_found(tmp_path):
    save(tmp_path / "p" / "x.tif", half(1, 3))
    save(tmp_path / "t" / "y.tif", half(1, 3))

    with pytest.raises(InputError, match=r"x\.tif.*y\.tif"):
        pair_paths(str(tmp_path / "p"), str(tmp_path / "t"))


def test_lazy_volumes_are_never_read_whole():
    class Counting:
        shape = (40, 1200, 1200)
        dtype = np.dtype(np.uint8)
        largest = 0

        def __getitem__(self, key):
            box = Roi(
                tuple(s.indices(n)[0] for s, n in zip(key, self.shape, strict=True)),
                tuple(s.indices(n)[1] for s, n in zip(key, self.shape, strict=True)),
            )
            Counting.largest = max(Counting.largest, box.size)
            part = np.zeros(box.shape, np.uint8)
            part[:, :600] = 1
            return part

    scored = score_volume(Volume(Counting()), Volume(Counting()), ScoreOptions())

    assert scored.classes["1"]["tp"] == 40 * 600 * 1200
    assert Counting.largest <= 2**25 < np.prod(Counting.shape)


def test_a_class_that_no_volume_holds_has_no_mean():
    empty = Volume(np.zeros((2, 3, 4), np.uint8))
    options = ScoreOptions(classes=("background", "cell"))

    scored = score_volume(empty, empty, options)

    assert math.isnan(scored.classes["cell"]["dice"])
    assert scored.accuracy == 1.0


def test_a_file_that_changes_meanwhile_is_named(tmp_path, monkeypatch):
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[:, 1:3, 1:3] = 1
    files = [write_labels(tmp_path / f"{n}.tif", Volume(labels)) for n in "pt"]
    score = evaluate.score_volume

    def change(*args):
        write_labels(tmp_path / "t.tif", Volume(labels * 0))
        return score(*args)

    monkeypatch.setattr(evaluate, "score_volume", change)

    with pytest.raises(InputError, match=r"t\.tif: was changed while it was read"):
        evaluate_files(*map(str, files))
