"""`examples/ray/detect.py`: a job on a cluster of two nodes, and one line for whatever does not fit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from detr_onnx.errors import DatasetError, EngineError, ModelFileError, UsageError
from detr_onnx.jobs.inputs import Input
from tests.cli.command_line import PREFIX, ROOT
from tests.jobs.kill import rows_in
from tests.ray.kill import SCRIPT, by_path, loaded_script, start
from tests.small_model import sample_image

pytest.importorskip("pyarrow")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of ray.cluster_utils

GOOD, BAD = 20, 3
FAST = ("--engine", "onnxruntime", "--threads", "1", "--threshold", "0.3")


script = loaded_script()


def complaint(argv: list[object], capsys: pytest.CaptureFixture[str], status: int) -> str:
    """The one line with which the script ends."""
    assert script.main([*map(str, argv)]) == status
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if "demo model" not in line]
    return line.removeprefix(PREFIX)


# What fits


@pytest.mark.parametrize(
    ("nodes", "free", "threads", "asked", "fit"),
    [
        ([2], 2, 1, None, 2),
        ([2], 2, 2, None, 1),
        ([4, 4, 1], 9, 2, None, 4),
        ([3, 3], 6, 2, None, 2),  # a CPU of each node stays free
        ([8], 3, 1, None, 3),  # another job has five
        ([8], 8, 1, 5, 5),
    ],
)
def test_actors_take_the_cpus_that_are_free_on_a_node(nodes, free, threads, asked, fit):
    assert script.actors_that_fit(nodes, free, threads, asked) == fit


@pytest.mark.parametrize(
    ("nodes", "free", "threads", "asked", "words"),
    [
        ([2], 2, 4, None, "no room for an actor of 4 threads: found nodes with 2 CPUs, all of them free, expected 4"),
        ([2, 1], 3, 1, 4, "no room for 4 actors of 1 threads: found nodes with 2, 1 CPUs, all of them free"),
        ([2], 0, 1, None, "found nodes with 2 CPUs, 0 of them free, expected 1 free CPUs .*; there is room for 0; use"),
        ([], 0, 1, None, "found nodes with no CPUs"),
    ],
)
def test_what_does_not_fit_is_refused(nodes, free, threads, asked, words):
    with pytest.raises(UsageError, match=words):
        script.actors_that_fit(nodes, free, threads, asked)


# What is wrong before there is a cluster


def test_ray_that_is_not_installed_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    line = complaint([tmp_path, "-m", "demo", "-o", tmp_path / "out"], capsys, 1)
    assert line == "this needs the package ray with its part data; run pip install 'detr-onnx[ray]'"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "the rows need a directory; add -o DIR"),
        (["-o", "out", "--threads", "0"], "--threads is wrong: found 0, expected more than 0"),
        (["-o", "out", "--actors", "-1"], "--actors is wrong: found -1, expected more than 0"),
        (["-o", "out", "--stall", "nan"], "--stall is wrong: found nan, expected more than 0"),
        (
            ["-o", "out", "--providers", "CUDA"],
            "--providers cannot be used here; for GPUs, give map_batches num_gpus=1",
        ),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    assert complaint(["photos", "-m", "demo", *options], capsys, 2).startswith(words)
    assert [*tmp_path.iterdir()] == []


def test_images_in_tar_files_are_refused():
    with pytest.raises(UsageError, match=r"a\.tar/1\.jpg is in a tar file, or is one; use detr-onnx detect --shard"):
        script.file_of(Input("a.tar/1.jpg", b"\xff\xd8"))
    assert script.file_of(Input("caf\\xe9.jpg", os.fsdecode(b"caf\xe9.jpg"))) == b"caf\xe9.jpg"


def test_a_row_that_never_comes_ends_the_job(monkeypatch):
    monkeypatch.setattr(script, "POLL_S", 0.01)
    blocked = iter(lambda: script.time.sleep(1), 0)
    with pytest.raises(EngineError, match="no row has come for 0 seconds: found still waiting for 4 images, such as a"):
        [*script.polled(blocked, lambda: False, 0.05, "abcd")]


def test_a_job_that_has_to_stop_does_not_wait_for_the_next_rows(monkeypatch):
    monkeypatch.setattr(script, "POLL_S", 0.01)
    calls: list[int] = []
    blocked = iter(lambda: script.time.sleep(1), 0)
    assert [*script.polled(blocked, lambda: calls.append(1) or len(calls) > 3, 60.0, "abcd")] == []


def test_an_error_of_ray_is_the_sentence_of_detr_onnx_in_it():
    cause = ModelFileError("cannot read a.onnx", found="no such file")
    error = RuntimeError("Traceback …")
    error.cause = cause
    assert str(script.error_of(error)) == "an actor failed: cannot read a.onnx: found no such file"
    traceback = RuntimeError("The actor died\n  File …\ndetr_onnx.errors.ModelFileError: cannot read b.onnx\n")
    assert str(script.error_of(traceback)) == "an actor failed: cannot read b.onnx"
    assert str(script.error_of(RuntimeError("a\nlost node\n"))).startswith("an actor failed: found lost node; check")


def test_rows_that_come_twice_or_never_are_noticed(monkeypatch):
    rows = [[{"path": "a"}, {"path": "b"}], [{"path": "a"}]]
    tables = [SimpleNamespace(to_pylist=lambda part=part: part) for part in rows]
    monkeypatch.setattr(script, "batches", lambda *arguments: iter(tables))
    ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=KeyError))
    got: list[str] = []
    with pytest.raises(EngineError, match="no rows came for 1 images, such as c; run the same command again"):
        got.extend(r["path"] for r in script.rows_of_wave(ray, [Input(n, n) for n in "abc"], script.Pool(1), {}, bool))
    assert got == ["a", "b"]


# A cluster


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes with a CPU each."""
    pytest.importorskip("ray")
    from tests.ray.kill import Nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # workers import detr_onnx
        nodes = Nodes(2)
        yield nodes.address
        nodes.stop()


@pytest.fixture
def photos(tmp_path, graph, monkeypatch) -> Path:
    """A directory with good and bad images in photos/, and the small model."""
    (tmp_path / "photos").mkdir()
    shutil.copy(graph, tmp_path / "small.onnx")
    for number in range(GOOD):
        sample_image(40 + number, 30, number).save(tmp_path / f"photos/{number:02d}.jpg")
    for number in range(BAD):
        (tmp_path / f"photos/bad-{number}.jpg").write_bytes(b"not an image")
    return tmp_path


def on_cluster(directory: Path, address: str, *arguments: str) -> tuple[int, str]:
    """Exit status and stderr of the script."""
    command = [sys.executable, str(SCRIPT), "-m", "small.onnx", *FAST, "--address", address, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


def test_a_job_on_a_cluster_is_that_of_one_machine(photos, address):
    shutil.move(photos / "photos/bad-0.jpg", photos / "later.jpg")
    options = ("-o", "out", "--block", "4", "--wave", "10", "--batch-files", "6")
    status, err = on_cluster(photos, address, "photos", *options)
    assert (status, err) == (
        0, f"detr-onnx: {GOOD + BAD - 1} images in out/, {BAD - 1} of them failed: see their field error\n"
    )  # fmt: skip
    shutil.move(photos / "later.jpg", photos / "photos/bad-0.jpg")
    for out in ("out", "alone"):  # the command of one machine goes on with the cluster's job
        process = start(photos, ["photos"], out, "small.onnx", size=None)
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    rows = by_path(rows_in(photos / "out"))
    assert rows == by_path(rows_in(photos / "alone"))
    assert len({row["path"] for row in rows}) == len(rows) == GOOD + BAD
    before = sorted(path.name for path in (photos / "out").iterdir())
    status, err = on_cluster(photos, address, "photos", "-o", "out", "--threshold", "0.4")
    assert (status, err.count("\n")) == (1, 1)
    assert "out has the rows of another job: found threshold 0.3, expected threshold 0.4" in err
    assert sorted(path.name for path in (photos / "out").iterdir()) == before


def test_a_cluster_without_enough_cpus_is_one_line(photos, address):
    status, err = on_cluster(photos, address, "photos", "-o", "out", "--threads", "2")
    assert (status, err.count("\n")) == (2, 1)
    assert "the cluster has no room for an actor of 2 threads: found nodes with 1, 1 CPUs" in err
    assert not (photos / "out").exists()


def test_an_actor_that_cannot_open_the_model_is_one_line(photos, address):
    code = f"""
import sys
from tests.ray.test_script import script
from detr_onnx.errors import DetrError
from detr_onnx.jobs.inputs import Input
ray = script.import_ray()
arguments = script.parser().parse_args(["photos", "--address", {address!r}])
with script.connected(ray, arguments):
    try:
        [*script.rows_of_wave(ray, [Input("a.jpg", "a.jpg")], script.Pool(1, 1), {{"model": "gone.onnx"}}, bool)]
    except DetrError as error:
        sys.stderr.write(str(error))
"""
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=photos, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "an actor failed: cannot read gone.onnx: found no such file; check the path"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.txt", b"", "no paths in empty.txt: expected one path per line; check the list"),
        ("bad.parquet", b"PAR1", "the list bad.parquet cannot be read: found "),
        ("gone.txt", None, "the list gone.txt cannot be read: found No such file or directory"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(photos, address, name, content, words):
    if content is not None:
        (photos / name).write_bytes(content)
    status, err = on_cluster(photos, address, f"@{name}", "-o", "out")
    lines = [line for line in err.splitlines() if "0 images in out/" not in line]
    assert (status, len(lines)) == (1, 1), err
    assert lines[0].startswith(PREFIX + words)


def test_a_list_without_the_column_is_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.table({"file": ["a.jpg"]}), tmp_path / "list.parquet")
    with pytest.raises(DatasetError, match="the columns file, expected a column 'path' of texts"):
        script.detect_job.open_job(
            script.parser().parse_args([f"@{tmp_path}/list.parquet", "-o", str(tmp_path / "out")])
        )


def test_a_cluster_that_is_not_there_is_one_line(photos):
    pytest.importorskip("ray")
    status, err = on_cluster(photos, "127.0.0.1:9", "photos", "-o", "out")
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith(
        PREFIX + "there is no Ray cluster at 127.0.0.1:9: found [Errno 111] Connection refused; start"
    )
