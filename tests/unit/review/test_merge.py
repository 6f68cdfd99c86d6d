"""Corrections become a data set in which nothing else counts."""

import csv
import json

import numpy as np
import pytest
import torch
from balls import write_balls
from scipy.ndimage import minimum_filter
from small_models import small_model

from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.volumes import load_fold
from cellseg3d.io.registry import open_volume, read_labels, write_labels, write_volume
from cellseg3d.models.losses import DiceCELoss
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.review.gain import gains, score_before
from cellseg3d.review.merge import load_reviewed, merge_reviews, reviewed_pieces
from cellseg3d.review.pieces import MARKS, load_review
from cellseg3d.review.prepare import ReviewOptions, areas, prepare_review
from cellseg3d.samples.samplers import SiteSampler

CLASSES = ("background", "shell", "core")


def ball_model(**window):
    model = small_model(dims=2, classes=3, **window)
    model.classes = CLASSES
    return model


@pytest.fixture
def desk(tmp_path):
    """Two volumes, and a review of six pieces of them."""
    write_balls(tmp_path, cases=2, side=20)
    volumes = [str(tmp_path / f"ball{number}.mrc") for number in range(2)]
    options = ReviewOptions(n=6, size=16)
    prepare_review(volumes, [ball_model()], tmp_path / "review", options)
    return tmp_path


def truth_of(desk, piece):
    """The true labels of a piece, as a slice."""
    name = piece.volume.replace(".mrc", "_label.tif")
    return piece.flat(read_labels(name).read()[piece.roi.slices])


def correct(review, piece, labels):
    path = piece.labels_file(review.folder)
    write_labels(path, Volume(np.asarray(labels, np.uint8)[None]))


def mark(review, names):
    path = review.folder / MARKS
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        for row in rows:
            seen = row["labels"].removesuffix("_labels.tif") in names
            writer.writerow({**row, "seen": "yes" if seen else ""})


def test_a_piece_holds_its_image_and_what_a_prediction_of_the_whole_finds(desk):
    review = load_review(desk / "review")

    whole = {
        name: segment(
            open_volume(name), ball_model(), SegmentOptions(precision="float32")
        )
        for name in review.volumes
    }
    for piece in review.pieces:
        image = open_volume(piece.image_file(review.folder))
        labels = read_labels(piece.labels_file(review.folder))
        expected = whole[piece.volume].labels.array[piece.roi.slices]
        here = open_volume(piece.volume).read(piece.roi)
        assert max(piece.roi.shape) <= 16
        np.testing.assert_array_equal(image.read()[0], piece.flat(here))
        np.testing.assert_array_equal(labels.read()[0], piece.flat(expected))
        assert image.spacing.is_close(Spacing(0.05, 0.05, 0.05))
    assert len({piece.volume for piece in review.pieces}) == 2
    page = (desk / "review" / "index.html").read_text()
    assert page.count("<section>") == 6
    assert page.count("data:image/jpeg;base64,") == 18


def test_pieces_come_in_the_order_of_their_uncertainty_of_the_whole(desk):
    model = ball_model()
    options = ReviewOptions(n=1, size=32)
    volume = open_volume(desk / "ball0.mrc")
    asked = SegmentOptions(uncertainty=True, precision="float32")
    found = segment(volume, model, asked).uncertainty
    unsure = minimum_filter(found, (1, 3, 3)).mean(axis=(1, 2))

    found = prepare_review([str(desk / "ball0.mrc")], [model], desk / "one", options)

    [piece] = found.pieces
    assert piece.slice_number == int(unsure.argmax())
    assert piece.uncertainty == pytest.approx(float(unsure.max()), abs=1e-3)


def test_volumes_are_picked_on_the_training_grid_and_written_on_their_own(tmp_path):
    values = np.random.default_rng(0).normal(100, 20, (10, 24, 24)).astype(np.float32)
    write_volume(tmp_path / "a.mrc", Volume(values, Spacing(0.2, 0.1, 0.1)))
    model = small_model(dims=3)
    model.spacing_um, model.resampled = Spacing(0.1, 0.1, 0.1), True
    options = ReviewOptions(n=2, size=32)

    review = prepare_review(
        [str(tmp_path / "a.mrc")], [model], tmp_path / "review", options
    )

    expected = segment(open_volume(tmp_path / "a.mrc"), model).labels.array
    for piece in review.pieces:
        assert piece.roi.shape == (1, 24, 24)
        found = read_labels(piece.labels_file(review.folder)).read()
        np.testing.assert_array_equal(found, expected[piece.roi.slices])


def test_only_changed_or_seen_pieces_count_and_only_their_voxels(desk):
    review = load_review(desk / "review")
    changed, seen = review.pieces[1], review.pieces[4]
    correct(review, changed, truth_of(desk, changed))
    mark(review, [seen.name])

    found = merge_reviews([review.folder], desk / "merged")

    assert [each.piece.name for each in found] == [changed.name, seen.name]
    merged = load_datalist(desk / "merged")
    assert merged.classes == CLASSES
    for case in merged.cases:
        labels = read_labels(case.label).read()
        expected = np.full(labels.shape, 255, np.uint8)
        for piece in (changed, seen):
            if piece.volume == case.image:
                source = truth_of(desk, piece) if piece == changed else None
                if source is None:
                    source = read_labels(piece.predicted_file(review.folder)).read()[0]
                expected[piece.roi.slices] = piece.upright(source)
        np.testing.assert_array_equal(labels, expected)
    assert sum(case.image == changed.volume for case in merged.cases) == 1


def test_unannotated_voxels_do_not_enter_the_loss_or_the_samples(desk):
    review = load_review(desk / "review")
    for piece in review.pieces:
        correct(review, piece, truth_of(desk, piece))
    merge_reviews([review.folder], desk / "merged")
    loaded = load_fold(desk / "merged", None)
    annotated = [case.label != 255 for case in loaded.training]
    pieces = [each.roi.size for each in review.pieces]
    assert sum(int(each.sum()) for each in annotated) == sum(pieces)

    label = torch.from_numpy(loaded.training[0].label)[None, None].float()
    logits = torch.randn(1, 3, *label.shape[2:], requires_grad=True)
    DiceCELoss()(logits, label).backward()

    inside = torch.from_numpy(annotated[0])
    assert float(logits.grad[0][:, ~inside].abs().max()) == 0
    assert float(logits.grad[0][:, inside].abs().max()) > 0
    sampler = SiteSampler([case.label for case in loaded.training])
    random = np.random.default_rng(0)
    for number, place in (sampler.draw(random) for _ in range(200)):
        assert annotated[number][place]


def test_the_later_review_counts_where_two_meet(desk):
    first = load_review(desk / "review")
    volume = str(desk / "ball0.mrc")
    options = ReviewOptions(n=20, size=32)
    second = prepare_review([volume], [ball_model()], desk / "second", options)
    piece = next(each for each in first.pieces if each.volume == volume)
    correct(first, piece, np.ones_like(truth_of(desk, piece)))
    later = next(each for each in second.pieces if each.roi.intersect(piece.roi).size)
    correct(second, later, np.full_like(truth_of(desk, later), 2))

    merge_reviews([first.folder, second.folder], desk / "merged")

    [case] = load_datalist(desk / "merged").cases
    labels = read_labels(case.label).read()
    assert set(np.unique(labels[later.roi.slices])) == {2}


def test_cases_of_the_first_training_come_along_as_classes(desk):
    review = load_review(desk / "review")
    piece = next(each for each in review.pieces if each.volume.endswith("ball0.mrc"))
    correct(review, piece, np.ones_like(truth_of(desk, piece)))
    values = json.loads((desk / "datalist.json").read_text())
    values["label_map"] = {"1": 2, "2": 1}
    (desk / "datalist.json").write_text(json.dumps(values))

    merge_reviews([review.folder], desk / "merged", add=[desk / "datalist.json"])

    cases = {case.name: case for case in load_datalist(desk / "merged").cases}
    assert set(cases) == {"ball0", "ball1"}
    assert cases["ball0"].group == "specimen0"
    swapped = np.array([0, 2, 1], np.uint8)
    for name, case in cases.items():
        expected = swapped[read_labels(desk / f"{name}_label.tif").read()]
        if name == "ball0":
            expected[piece.roi.slices] = 1
        np.testing.assert_array_equal(read_labels(case.label).read(), expected)


def test_pieces_held_back_do_not_train_and_are_scored_apart(desk):
    review = load_review(desk / "review")
    for piece in review.pieces:
        correct(review, piece, truth_of(desk, piece))

    found = merge_reviews([review.folder], desk / "merged", hold_back=2)

    held = [each.piece for each in found if each.held_back]
    assert len(held) == 2
    for case in load_datalist(desk / "merged").cases:
        labels = read_labels(case.label).read()
        for piece in review.pieces:
            if piece.volume == case.image:
                values = set(np.unique(labels[piece.roi.slices]).tolist())
                assert (values == {255}) == (piece in held)
    loaded = load_reviewed(desk / "merged")
    assert [each.held_back for each in loaded] == [each.held_back for each in found]
    scores = gains(loaded, [ball_model()])
    # The same network finds the same labels again: nothing was gained.
    for kind in ("trained on", "held back"):
        assert scores[kind]["after"] == pytest.approx(scores[kind]["before"])


def test_the_score_before_is_the_dice_of_the_prediction(desk):
    review = load_review(desk / "review")
    for piece in review.pieces:
        correct(review, piece, truth_of(desk, piece))

    scores = score_before(reviewed_pieces(review))

    predicted, true = (
        np.concatenate([each.ravel() for each in arrays])
        for arrays in (
            [
                read_labels(p.predicted_file(review.folder)).read()
                for p in review.pieces
            ],
            [truth_of(desk, p) for p in review.pieces],
        )
    )
    for value, name in ((1, "shell"), (2, "core")):
        both = ((predicted == value) & (true == value)).sum()
        either = (predicted == value).sum() + (true == value).sum()
        assert scores[name] == pytest.approx(2 * both / either)


def test_what_cannot_be_merged_is_refused_in_words(desk):
    review = load_review(desk / "review")
    with pytest.raises(InputError, match=r"nothing was reviewed.*seen"):
        merge_reviews([review.folder], desk / "merged")
    mark(review, [piece.name for piece in review.pieces])
    with pytest.raises(ConfigError, match=r"6 of 6 reviewed pieces.*leave one"):
        merge_reviews([review.folder], desk / "merged", hold_back=6)
    text = (review.folder / MARKS).read_text()
    (review.folder / MARKS).write_text(text.replace("yes", "perhaps"))
    with pytest.raises(InputError, match=r"marked 'perhaps'.*write yes"):
        merge_reviews([review.folder], desk / "merged")
    (review.folder / MARKS).write_text(text.replace(",", ";"))
    write_balls(desk, cases=1, side=20, seed=9)  # the volume is another one now
    with pytest.raises(InputError, match=r"ball0.mrc: has changed"):
        merge_reviews([review.folder], desk / "merged")


def test_parts_of_objects_are_no_labels_to_draw(desk):
    model = small_model(dims=2, classes=3)
    model.classes = ("background", "core", "border")
    with pytest.raises(ConfigError, match=r"parts of objects.*predict --objects"):
        prepare_review([str(desk / "ball0.mrc")], [model], desk / "other")


def test_an_unsure_area_counts_and_the_thin_line_along_a_border_does_not():
    unsure = np.zeros((3, 20, 20), np.float32)
    unsure[0, :, 9:11] = 0.9  # a border
    unsure[2, 4:12, 4:12] = 0.6  # an area of 8 x 8: 6 x 6 remain

    counted = areas(unsure, "z")

    assert counted[0].max() == 0
    assert counted[2].sum() == pytest.approx(36 * 0.6)
    # Across slices nothing is asked: a slice is looked at by itself.
    assert areas(unsure.transpose(1, 2, 0), "x")[..., 2].sum() == pytest.approx(21.6)


def test_a_volume_of_which_only_background_was_reviewed_trains(desk):
    review = load_review(desk / "review")
    for piece in review.pieces:
        correct(review, piece, np.zeros_like(truth_of(desk, piece)))
    mark(review, [piece.name for piece in review.pieces])

    merge_reviews([review.folder], desk / "merged")

    loaded = load_fold(desk / "merged", None)
    values = np.unique([np.unique(case.label) for case in loaded.training])
    assert values.tolist() == [0, 255]


@pytest.mark.parametrize(
    ("key", "value"),
    [("spacing_um", [0.1]), ("classes", "ab"), ("pieces", [{}]), ("volumes", [])],
)
def test_a_review_of_another_form_is_refused(tmp_path, key, value):
    values = {"classes": ["a", "b"], "spacing_um": None, "volumes": {}, "pieces": []}
    path = tmp_path / "review.json"
    path.write_text(json.dumps({**values, "models": []}))
    assert load_review(tmp_path).classes == ("a", "b")

    path.write_text(json.dumps({**values, "models": [], key: value}))

    with pytest.raises(ConfigError, match=r"review.json: is missing or damaged"):
        load_review(tmp_path)
