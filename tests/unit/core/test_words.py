import pytest

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.words import counted, refuse_unknown, suggestion


def test_nouns_follow_their_number():
    assert [counted(n, "image") for n in (0, 1, 2)] == [
        "0 images",
        "1 image",
        "2 images",
    ]


def test_the_nearest_word_is_offered_and_all_when_none_is_near():
    assert suggestion("sead", ["epochs", "seed"]) == "; did you mean 'seed'?"
    assert suggestion("colour", ["epochs", "seed"]) == "; known: epochs, seed"


def test_the_first_unknown_key_is_named_with_its_place():
    refuse_unknown({"seed": 1}, ("epochs", "seed"), "a.yaml")

    with pytest.raises(ConfigError) as caught:
        refuse_unknown({"seed": 1, "epoch": 2, "x": 3}, ("epochs", "seed"), "a.yaml")

    expected = "a.yaml: unknown key 'epoch'; did you mean 'epochs'?"
    assert str(caught.value) == expected
