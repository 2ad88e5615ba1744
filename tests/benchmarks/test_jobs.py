"""The benchmarks of jobs: both folders are run, rates leave out the start, and memory is flat."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import job_tables, jobs, jobs_memory
from benchmarks.setting import environment
from detr_onnx.bench.processes import Program, run

pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]
FIRST, NAMES = 1000, 3000


def test_the_rate_leaves_out_the_start():
    loop = Program("loop", "loop", (), peak_mb=[100.0], wall_s=[5.0])
    few = Program("loop-one", "loop, one", (), peak_mb=[90.0], wall_s=[3.0])
    job = Program("ndjson", "job", (), peak_mb=[120.0], wall_s=[4.0])
    job_few = Program("ndjson-one", "job, one", (), peak_mb=[90.0], wall_s=[3.0])
    alone = Program("detect", "detect", (), peak_mb=[1.0], wall_s=[1.0])
    rows = jobs.rows([loop, few, job, job_few, alone], 11)
    assert [row["key"] for row in rows] == ["loop", "ndjson"]
    assert [row["images_per_s"] for row in rows] == pytest.approx([5, 10])
    assert [row["relative_to_loop"] for row in rows] == pytest.approx([1, 0.5])
    assert jobs.per_second(-1.0) is None


def test_without_the_loop_the_others_have_no_relation_to_it():
    job = Program("ndjson", "job", (), peak_mb=[120.0], wall_s=[4.0])
    job_few = Program("ndjson-one", "job, one", (), peak_mb=[90.0], wall_s=[3.0])
    (row,) = jobs.rows([job, job_few], 11)
    assert (row["images_per_s"], row["relative_to_loop"]) == (pytest.approx(10), None)
    machine = {"processor": "x", "cores": 2}
    head = {"images": 2, "model": "m", "engine": "auto", "threads": 1, "runs": 1, "date": "d", "machine": machine}
    assert "| job | 10.0 | | 120 MB |" in job_tables.jobs_table({**head, "rows": [row], "left_out": []})


def test_a_contender_runs_over_a_folder(tmp_path, small):
    pytest.importorskip("onnx")
    options = argparse.Namespace(work=tmp_path, threads=1, engine="onnxruntime", python_peers=None, images=2)
    _, few = jobs.folders(tmp_path, 2)
    variables = environment(tmp_path, 1) | {"PYTHONPATH": str(ROOT)}
    title, command = jobs.commands(options, str(small), few)["ndjson"]
    program = Program("ndjson", title, command)
    run(program, variables)
    assert program.wall_s[0] > 0
    assert [path.name for path in sorted((tmp_path / "jobs-out").glob("part-*"))] == ["part-000000.ndjson"]
    assert {program.key for program in jobs.programs(options, str(small))} >= {"loop", "loop-one", "parquet-one"}


def test_the_table_has_a_row_for_each_contender():
    machine = {"processor": "x", "cores": 2}
    row = {"title": "`detect DIR -o out/`", "images_per_s": 4.0, "relative_to_loop": 0.5, "peak_mb": {"median": 120.0}}
    head = {"images": 2, "model": "m", "engine": "auto", "threads": 1, "runs": 1, "date": "d", "machine": machine}
    table = job_tables.jobs_table({**head, "rows": [row], "left_out": [{"title": "transformers"}]})
    assert "| `detect DIR -o out/` | 4.00 | 0.50× | 120 MB |" in table
    assert table.endswith("Left out: transformers.")


def test_the_memory_of_a_job_is_flat(tmp_path, monkeypatch):
    monkeypatch.setattr("detr_onnx.detector.open_model", None)  # restored after the test, as is the decoder
    monkeypatch.setattr("detr_onnx.jobs.detect.read_rgb", None)
    monkeypatch.setattr(jobs_memory, "FIRST", FIRST)
    results = jobs_memory.measure(NAMES, tmp_path)
    assert results["growth_mb"] <= jobs_memory.FLAT_MB
    assert [*results["resident_mb"]][-1] == str(NAMES)
    assert f"over {NAMES:,} names" in job_tables.memory_sentence(results)


def test_the_sentence_of_killed_jobs_counts_faults():
    outcome = {"kills": 100, "images": 2000, "faults": ["torn"]}
    sentence = job_tables.kill_sentence({"ndjson": outcome | {"faults": []}, "parquet": outcome})
    assert (
        "100 times over 2,000 images as ndjson: 0 faults; 100 times over 2,000 images as parquet: 1 faults" in sentence
    )
