"""Five hundred damaged files: each is refused in words, or read as it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_no_damaged_file_ends_in_anything_but_words(tmp_path):
    out = tmp_path / "found.json"
    words = ["--count", "500", "--seed", "2026", "--json", str(out)]
    script = str(ROOT / "benchmarks" / "fuzz.py")

    done = subprocess.run(
        [sys.executable, script, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    found = json.loads(out.read_text())
    assert found["failures"] == []
    assert done.returncode == 0
    counts = [sum(kinds.values()) for kinds in found["outcomes"].values()]
    assert sum(counts) == 500
    # Kinds that take long to read get fewer mutants than the others.
    assert len(counts) == 35
    assert min(counts) >= 2
    # A reader that refuses nothing, or everything, would say nothing.
    assert sum(kinds.get("refused", 0) for kinds in found["outcomes"].values()) > 100
    assert sum(kinds.get("read", 0) for kinds in found["outcomes"].values()) > 50
