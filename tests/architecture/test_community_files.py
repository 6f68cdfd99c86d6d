"""What stands beside the code is valid, and says one version."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

import cellseg3d
from cellseg3d.cli.main import VERBS

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "tests" / "fixtures" / "schemas" / "cff-1.2.0.json"


def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def faults_of(values):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    # Dates are text in the schema, and the format is checked by its pattern.
    return [
        fault.message
        for fault in jsonschema.Draft7Validator(schema).iter_errors(values)
    ]


def test_the_citation_follows_its_schema():
    assert faults_of(citation()) == []


@pytest.mark.parametrize(
    "wrong", [{"authors": []}, {"license": "Apache"}, {"cff-version": "1"}]
)
def test_a_wrong_citation_is_noticed(wrong):
    assert faults_of(citation() | wrong) != []


def test_the_version_stands_once():
    """Else a release would say two numbers (docs/releasing.md)."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)[1]
    version = cellseg3d.__version__

    assert citation()["version"] == version
    assert newest == ("Unreleased" if version.endswith(".dev0") else version)


def test_issue_forms_ask_for_commands_that_exist():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    texts = [path.read_text(encoding="utf-8") for path in forms]
    verbs = {verb for text in texts for verb in re.findall(r"`cellseg3d (\w+)", text)}

    assert verbs == {"inspect", "simulate", "doctor", "evaluate"}
    assert verbs <= set(VERBS)
    for path, text in zip(forms, texts, strict=True):
        form = yaml.safe_load(text)
        if path.name == "config.yml":
            continue
        ids = [part["id"] for part in form["body"]]
        assert form["name"]
        assert form["description"]
        assert len(ids) == len(set(ids)) > 1


def test_the_actions_run_what_a_developer_runs():
    path = ROOT / ".github" / "workflows" / "ci.yml"
    [job] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()

    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_the_container_copies_all_that_the_package_is_built_from():
    """The daemon sees only what .dockerignore lets through."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {
        name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    seen = {line[1:] for line in ignored if line.startswith("!") and "*" not in line}

    assert copied == seen
    assert {"cellseg3d", "bundles", "setup.py", "setup.cfg", "README.md"} <= copied
    assert all((ROOT / name).exists() for name in copied)
