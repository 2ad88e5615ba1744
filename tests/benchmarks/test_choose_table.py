"""The decision table has the figures of the results, and every choice of it has been measured or says nothing."""

from __future__ import annotations

import copy

from benchmarks import report
from benchmarks.choose_table import CHOICES, SOURCES, choose_table

RESULTS = report.read_results(report.HERE / "results", "+".join(SOURCES))


def row_of(matters: str, results: report.Results) -> list[str]:
    (line,) = (line for line in choose_table(results).splitlines() if line.startswith(f"| {matters} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_without_one_of_the_results_there_is_no_table(tmp_path):
    (tmp_path / "latency.json").write_text("{}")
    assert report.read_results(tmp_path, "latency+memory") == {}


def test_every_choice_has_a_row():
    assert choose_table(RESULTS).count("\n| ") == len(CHOICES) + 1  # the rule below the heads


def test_times_are_relative_to_onnx_runtime_in_the_same_runs():
    changed = copy.deepcopy(RESULTS)
    rows = {row["key"]: row for row in changed["precisions"]["rows"]}
    rows["onnxruntime-int8"]["ms"]["network"]["median"] = 0.25 * rows["onnxruntime-fp32"]["ms"]["network"]["median"]
    rows["onnxruntime-int8"]["peak_mb"]["median"] = 123.4
    assert row_of("few packages, speed, little memory", changed)[5:7] == ["0.25×", "123 MB"]


def test_agreement_is_that_of_the_same_precision():
    changed = copy.deepcopy(RESULTS)
    for row in changed["accuracy"]["rows"]:
        row["identical"] = 0.5 if row["key"] == "numpy" else 1.0
    assert row_of("numpy and Pillow only", changed)[-1] == "50.0 %"
    assert row_of("few packages", changed)[-1] == "100.0 %"
