import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg3d.core.class_files import class_file_names, class_of_file


def test_classes_that_would_share_a_file_get_files_of_their_own():
    classes = ["background", "rough ER", "rough_ER", "Rough+er", "n/a", "rough_ER_2"]

    names = class_file_names(classes)

    assert names == (
        "background",
        "rough_ER",
        "rough_ER_2",
        "Rough_er_3",
        "n_a",
        "rough_ER_2_2",
    )


@given(st.lists(st.text(min_size=1, max_size=4), unique=True, max_size=8))
def test_every_class_is_found_again_by_its_file(classes):
    names = class_file_names(classes)

    assert len({name.casefold() for name in names}) == len(classes)
    assert all("/" not in name and "\0" not in name for name in names)
    for name, word in zip(classes, names, strict=True):
        assert class_of_file(f"a_prob_{word}", classes) == ("a", name)


@pytest.mark.parametrize("stem", ["a_prob_other", "a_prob_b_prob_other"])
def test_a_file_of_no_known_class_keeps_its_word(stem):
    assert class_of_file(stem, ["x"])[1] == "other"
