"""Values from files have the form that their reader expects."""

import pytest

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.form import ANY, check_form

FORM = {
    "name": str,
    "seeds": [int],
    "share?": float,
    "state": ("done", "failed"),
    "tests": [(str, [str])],
    "scores": {ANY: (float, None)},
}
GOOD = {
    "name": "a",
    "seeds": [0, 1],
    "share": 1,
    "state": "done",
    "tests": ["a", ["b", "c"]],
    "scores": {"x": 0.5, "y": None},
    "more": object(),
}


def test_values_of_the_form_are_taken():
    check_form(GOOD, FORM, "file")
    check_form({key: GOOD[key] for key in GOOD if key != "share"}, FORM, "file")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", 3, "name is 3; expected text"),
        ("seeds", 0, "seeds is 0; expected a list, each item a whole number"),
        ("seeds", [0, True], r"seeds\[1\] is True; expected a whole number"),
        ("share", "x", "share is 'x'; expected a number"),
        ("share", 2**4000, "share is .*; expected a number"),
        ("state", "dne", "state is 'dne'; expected 'done' or 'failed'"),
        ("tests", [3], r"tests\[0\] is 3; expected text or a list, each item text"),
        ("scores", [], r"scores is \[\]; expected a mapping"),
        ("scores", {"x": {}}, r"scores.x is \{\}; expected a number or null"),
    ],
)
def test_another_form_is_refused_with_its_place(key, value, words):
    with pytest.raises(ConfigError, match=f"^file: {words}$"):
        check_form({**GOOD, key: value}, FORM, "file")


def test_a_missing_key_and_keys_that_are_no_text_are_refused():
    with pytest.raises(ConfigError, match="file: name is missing"):
        check_form({"seeds": []}, FORM, "file")
    with pytest.raises(ConfigError, match=r"holds .*; expected a mapping"):
        check_form({**GOOD, 3: 4}, FORM, "file")
