"""The benchmark of Ray beside shards: balanced shares, rates without the start, and the reckoning."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import ray, scale_tables
from benchmarks.setting import environment
from detr_onnx.bench.processes import Program, run
from detr_onnx.jobs.shard import Shard

ROOT = Path(__file__).parents[2]


def results(**changes: object) -> dict[str, object]:
    row = {"title": "Ray", "images_per_s": 10.0, "relative_to_shards": 1.05, "start_s": {"median": 4.0}}
    head = {"images": 32, "model": "m", "engine": "auto", "threads": 2, "runs": 3, "date": "d"}
    money = {"core_hour_dollars": 0.05, "hosted_dollars": 0.0000075}
    driver = {"names": 50_000, "rows_per_s": 2000, "object_store_mb": 1.0, "resident_mb": 270.0}
    machine = {"processor": "x", "cores": 2}
    return {**head, **money, "machine": machine, "driver": driver, "rows": [row], "left_out": [], **changes}


def test_every_shard_has_as_many_photographs(tmp_path):
    name = ray.folder(tmp_path, "few", 2, 3)
    paths = [f"{name}/{path.name}" for path in (tmp_path / name).iterdir()]
    assert [sum(Shard(index, 3).holds(path) for path in paths) for index in range(3)] == [2, 2, 2]


def test_the_rate_leaves_out_the_start():
    shards = Program("shards", "shards", (), wall_s=[12.0])
    shards_few = Program("shards-few", "shards, few", (), wall_s=[2.0])
    actors = Program("ray", "Ray", (), wall_s=[28.0])
    actors_few = Program("ray-few", "Ray, few", (), wall_s=[8.0])
    rows = ray.rows([shards, shards_few, actors, actors_few], 12, 2)
    assert [row["images_per_s"] for row in rows] == pytest.approx([1.0, 0.5])
    assert [row["relative_to_shards"] for row in rows] == pytest.approx([1.0, 2.0])
    assert [row["start_s"]["median"] for row in rows] == [2.0, 8.0]
    assert ray.rows([actors, actors_few], 12, 2) == []


def test_a_contender_runs_all_its_processes(tmp_path, small):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("pyarrow")
    options = argparse.Namespace(work=tmp_path, threads=2, engine="onnxruntime", images=4)
    shards = next(program for program in ray.programs(options, str(small)) if program.key == "shards-few")
    run(shards, environment(tmp_path, 1) | {"PYTHONPATH": str(ROOT)})
    names = sorted(path.name for path in (tmp_path / "ray-out").glob("part-*"))
    assert names == ["part-000-of-002-000000.parquet", "part-001-of-002-000000.parquet"]


def test_a_contender_of_which_a_process_fails_has_failed(tmp_path):
    with pytest.raises(RuntimeError):
        run(Program("x", "x", ray.together(tmp_path, [["true"], ["sh", "-c", "echo no >&2; exit 3"]])), {})


def test_the_table_has_a_row_for_each_way_and_says_what_the_driver_takes():
    table = scale_tables.ray_table(results())
    assert "| Ray | 10.0 | 1.05× | 4.0 s |" in table
    assert "one driver takes 2,000 rows a second" in table
    assert "Over 50,000 names its memory is 270 MB, and the object store takes 1.0 MB." in table


def test_the_reckoning_comes_from_the_rates():
    table = scale_tables.scale_table(results())
    hours = 10**8 / 10 / 3600  # on two cores
    assert f"| Ray | {hours:,.0f} | {2 * hours:,.0f} | 33 | $278 | $0.135 a core-hour |" in table
    assert "The hosted API takes $0.0000075 an image: $750." in table
    assert "One driver of Ray keeps up with 200 such machines." in table
    no_rate = results(rows=[{**results()["rows"][0], "images_per_s": None}])
    assert "| Ray |" not in scale_tables.scale_table(no_rate)


def test_the_sentence_of_killed_jobs_counts_faults():
    outcome = {"images": 5000, "nodes": 3, "kills": {"node": 8, "actor": 7}, "jobs": 2, "faults": ["torn"]}
    sentence = scale_tables.ray_kill_sentence(outcome)
    assert "jobs over 5,000 images on 3 nodes: 7 actors, 8 nodes; 2 jobs, 1 faults" in sentence
