"""What the package may not use, so that it runs on Windows and macOS as on Linux."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cellseg3d"
FILES = sorted(PACKAGE.rglob("*.py"))
UNIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
UNIX_CALLS = {
    *("fork", "getuid", "kill", "killpg", "mkfifo", "nice", "posix_spawnp", "pread"),
    *("pwrite", "sched_getaffinity", "setsid", "sysconf", "uname", "wait4"),
}
# Each is asked for in one place, which does without where it is missing.
ALLOWED = {
    ("core/memory.py", "resource"),
    ("core/memory.py", "/sys/fs/cgroup"),
    ("core/processes.py", "/proc/cpuinfo"),
}


def calls(path: Path) -> list[ast.Call]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def is_text_without_encoding(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    keywords = {each.arg: each.value for each in call.keywords}
    if "encoding" in keywords:
        return False
    if name in ("read_text", "write_text"):
        return isinstance(call.func, ast.Attribute)  # `atomic.write_text` says it
    if "text" in keywords:
        return name in ("run", "Popen", "check_output")
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        return False
    own_method = isinstance(call.func, ast.Attribute) and name == "open"
    place = 0 if own_method else 1
    given = call.args[place : place + 1] or [keywords.get("mode")]
    [mode] = given
    if mode is None:
        # Path.open() reads text; other methods of this name take something.
        return isinstance(call.func, ast.Name) or not (call.args or call.keywords)
    text = mode.value if isinstance(mode, ast.Constant) else None
    return isinstance(text, str) and set(text) <= set("rwxat+")


def unix_only(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names} & UNIX_MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} & UNIX_MODULES
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr in UNIX_CALLS:
                found.add(f"os.{node.attr}")
        elif isinstance(node, ast.Constant):
            is_place = str(node.value).startswith(("/proc/", "/sys/", "/dev/", "/tmp"))
            found |= {node.value} if is_place else set()
    return found


@pytest.mark.parametrize(
    ("line", "faulty"),
    [
        ("open('a')", True),
        ("open('a', 'rb')", False),
        ("open('a', encoding='utf-8')", False),
        ("path.open('w')", True),
        ("path.open()", True),
        ("path.open('r+b', buffering=0)", False),
        ("zarr.open(path)", False),
        ("path.write_text(text)", True),
        ("subprocess.run(words, text=True)", True),
    ],
)
def test_text_without_encoding_is_found(line, faulty):
    [call] = [n for n in ast.walk(ast.parse(line)) if isinstance(n, ast.Call)]

    assert is_text_without_encoding(call) == faulty


def test_every_text_file_is_opened_with_its_encoding():
    """Without it Windows takes the code page of the country."""
    faulty = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}"
        for path in FILES
        for call in calls(path)
        if is_text_without_encoding(call)
    ]

    assert faulty == []


def test_nothing_that_only_unix_has_is_used():
    """But for the measured comparison with other programs, which weighs processes."""
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in FILES
        if path.parent.name != "benchmark"
        for name in unix_only(path)
    }

    assert found == ALLOWED


def test_text_is_written_by_one_function():
    # These files are read by no user, or written by processes that cannot import it.
    own = {"benchmark/nnunet.py", "benchmark/nnunet_driver.py", "benchmark/weigh.py"}
    own |= {"core/atomic.py", "runs/lock.py"}
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        for call in calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr == "write_text"
    }

    assert found == own
