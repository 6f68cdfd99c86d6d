"""What the package says in one place, and in no second one."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "cellseg3d"
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def is_255(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value == 255


def says_255(node: ast.AST) -> bool:
    """Whether a node compares with 255 for equality, or gives it a name."""
    if isinstance(node, ast.Compare):
        equal = all(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops)
        return equal and any(map(is_255, [node.left, *node.comparators]))
    return isinstance(node, ast.Assign | ast.AnnAssign) and is_255(node.value)


def test_the_label_that_is_not_annotated_is_named_once():
    found = [name for name, tree in TREES.items() if any(map(says_255, ast.walk(tree)))]

    assert found == ["core/ignore.py"]


def test_one_module_looks_for_similar_words():
    found = [
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and node.names[0].name == "difflib"
    ]

    assert found == ["core/words.py"]
