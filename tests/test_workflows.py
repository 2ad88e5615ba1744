"""The workflows for a forge: pinned actions, least rights, limits of time, and the systems and Pythons they name."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXTS = {file.name: file.read_text(encoding="utf-8") for file in FILES}
WORKFLOWS: dict[str, dict[Any, Any]] = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = [(name, key, job) for name, workflow in WORKFLOWS.items() for key, job in workflow["jobs"].items()]
ON = True  # YAML 1.1 reads the key `on` as a truth value


def test_every_action_is_pinned_to_a_commit_whose_version_is_said():
    pins: dict[str, set[str]] = {}
    for text in TEXTS.values():
        for action, rest in re.findall(r"uses: ([^@\s]+)(.*)", text):
            if action.startswith("./"):
                assert (ROOT / action).is_file()
                continue
            assert re.fullmatch(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+", rest), action
            pins.setdefault(action, set()).add(rest)
    assert pins
    assert all(len(versions) == 1 for versions in pins.values())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read_unless_a_job_says_more(name):
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    assert set(WORKFLOWS[name][ON]) <= {"push", "pull_request", "schedule", "workflow_dispatch", "workflow_call"}


def test_jobs_with_more_rights_are_those_that_publish():
    rights = {f"{name}/{key}": set(job["permissions"]) for name, key, job in JOBS if "permissions" in job}
    assert rights == {
        "docs.yml/publish": {"pages", "id-token"},
        "release.yml/pypi": {"id-token"},
        "release.yml/github": {"contents", "id-token", "attestations"},
    }
    assert WORKFLOWS["release.yml"][ON] == {"push": {"tags": ["v*"]}}
    assert WORKFLOWS["release.yml"]["jobs"]["pypi"]["environment"]["name"] == "pypi"


@pytest.mark.parametrize(("name", "key", "job"), JOBS)
def test_jobs_have_a_limit_of_time_and_keep_no_credentials(name, key, job):
    assert "uses" in job or 0 < job["timeout-minutes"] <= 60
    for step in job.get("steps", ()):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", ""), "what comes from outside belongs in env"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib")
def test_every_supported_python_is_tested_on_every_system():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    matrix = WORKFLOWS["tests.yml"]["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == versions
    assert {label.partition("-")[0] for label in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert any(label.endswith("-arm") for label in matrix["os"])


@pytest.mark.skipif(sys.platform == "win32", reason="files there have no mode")
def test_scripts_that_are_run_are_there():
    scripts = {script for text in TEXTS.values() for script in re.findall(r"\.ci/\w+", text)}
    assert {".ci/lowest", ".ci/sbom", ".ci/schemas"} <= scripts
    assert all((ROOT / script).stat().st_mode & 0o100 for script in scripts)
