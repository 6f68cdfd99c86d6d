"""One reader of JSON and YAML for all files that a user or stranger wrote."""

import os

import pytest

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.mappings import read_mapping


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_does_not_matter(tmp_path, name, mark):
    path = tmp_path / name
    path.write_bytes(mark + b'{"a": 1}')

    assert read_mapping(path) == {"a": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"a": 1, "a": 2}'),
        ("a.json", "[" * 100_000),
        ("a.json", '{"a": ' + "9" * 5000 + "}"),
        ("a.json", "[1]"),
        ("a.json", ""),
        ("a.yaml", "a: &x [1]\nb: *x"),
        ("a.yaml", "a: 0000-00-00"),
        ("a.yaml", "a: !!python/object:os.system [x]"),
        ("a.yaml", "? [1, 2]\n: 3"),
        ("a.yaml", "[" * 5_000),
    ],
)
def test_what_is_no_mapping_is_named_in_one_line(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(ConfigError) as raised:
        read_mapping(path)

    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_pipe_is_no_config(tmp_path):
    os.mkfifo(tmp_path / "a.json")

    with pytest.raises(ConfigError, match="regular file"):
        read_mapping(tmp_path / "a.json")
