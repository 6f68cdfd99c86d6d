"""What is marked slow runs rarely: no idea may be tested by slow tests alone."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
# One volume too large for the memory takes minutes whatever is done to it.
SLOW_ALONE = {"integration/test_huge_volume.py"}


def slow_and_quick(file: Path) -> tuple[int, int]:
    """Return how many tests of a file are marked slow as a whole, and how many not."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    tests = [
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    ]
    slow = [
        each
        for each in tests
        if "pytest.mark.slow" in map(ast.unparse, each.decorator_list)
    ]
    return len(slow), len(tests) - len(slow)


def test_a_module_with_slow_tests_has_quick_ones_too():
    counts = {
        file.relative_to(TESTS).as_posix(): slow_and_quick(file)
        for file in TESTS.rglob("test_*.py")
    }

    with_slow = {name for name, (slow, _) in counts.items() if slow}
    assert len(with_slow) >= 5
    assert {name for name in with_slow if not counts[name][1]} == SLOW_ALONE
