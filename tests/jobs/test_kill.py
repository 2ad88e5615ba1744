"""A job that is killed a few times; `python -m tests.jobs.kill` does so a hundred times over 2,000 images."""

from __future__ import annotations

import sys

import pytest

from tests.jobs.kill import run

pytest.importorskip("onnxruntime")


@pytest.mark.skipif(sys.platform == "win32", reason="signals there are others")
def test_a_job_that_is_killed_has_the_rows_of_an_undisturbed_one(tmp_path, monkeypatch, graph):
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    directory = tmp_path / "job"
    directory.mkdir()
    report = run(4, 60, 1, "ndjson", str(graph), directory)
    assert (report.kills, report.faults) == (4, [])
