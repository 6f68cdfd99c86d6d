"""The example of every public name runs, and says what the docstring says."""

import doctest

import pytest

import cellseg3d

NAMES = [name for name in cellseg3d.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_an_example_that_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = getattr(cellseg3d, name)
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF)
    said: list[str] = []

    for example in finder.find(named, name, globs={}):
        runner.run(example, out=said.append)

    assert runner.tries > 0, f"{name}: its docstring holds no example"
    assert runner.failures == 0, "".join(said)
