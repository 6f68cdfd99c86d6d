"""A damaged journal costs the work that it no longer proves, and nothing else."""

import pytest

from cellseg3d.core.roi import Roi
from cellseg3d.prediction.output.journal import NAME, Finished, Journal

TASK = {"model": "a"}
FIRST, SECOND = Roi((0, 0, 0), (1, 8, 8)), Roi((1, 0, 0), (2, 8, 8))


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe",
        b"[1]\n",
        b'{"start": [1, 0, 0], "stop": [2, 8]',
        b'{"start": [1, 0, 0], "stop": [2, 8], "crc": 3}\n',
        b'{"start": [1, 0, "x"], "stop": [2, 8, 8], "crc": 3}\n',
        b'{"start": [1, 0, 0], "stop": [2, 8, 8], "crc": null}\n',
        b'{"complete": false}\n',
        b"null\n",
    ],
)
def test_lines_before_the_damage_count_and_none_behind_it(tmp_path, damage):
    journal = Journal(tmp_path, TASK)
    journal.open()
    journal.add(Finished(FIRST, 11, sums=[[1.0, 2.0]] * 3))
    with (tmp_path / NAME).open("ab") as file:
        file.write(damage)
    journal.add(Finished(SECOND, 22, sums=[[0.5, 1.0]] * 3))
    journal.finish()

    again = Journal(tmp_path, TASK)
    again.open()

    assert again.done == {FIRST: 11}
    assert again.sums is not None
    assert again.sums.tolist() == [[1.0, 2.0]] * 3
    assert not again.complete
    assert not again.goes_on()
