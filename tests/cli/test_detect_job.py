"""`detect -o DIR`: the command line of jobs, its refusals, its signals, and its progress."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detr_onnx.cli.job_progress import progress_line
from tests.cli.command_line import PREFIX, ROOT, in_a_process
from tests.small_model import sample_image

pytest.importorskip("onnxruntime")

LIMIT_BYTES = 3000  # of a file, in place of a full disk


def rows(directory: str = "out") -> list[dict[str, object]]:
    texts = [part.read_text() for part in sorted(Path(directory).glob("part-*"))]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_a_row_for_each_image_goes_into_the_directory(run):
    Path("bad.jpg").write_bytes(b"x")
    status, out, err = run("detect", ".", "missing.jpg", "-o", "out", "--batch-files", "2")
    assert (status, out) == (0, "")
    assert err == "detr-onnx: 5 images in out/, 2 of them failed: see their field error\n"
    assert sorted(row["path"] for row in rows()) == ["a.png", "b.jpg", "bad.jpg", "deep/c.png", "missing.jpg"]
    errors = {row["path"]: row["error"] for row in rows() if row["error"]}
    assert errors["missing.jpg"] == "cannot read 'missing.jpg': found no such file; check the path"
    assert len(list(Path("out").glob("part-*.ndjson"))) == 3
    assert run("detect", ".", "missing.jpg", "-o", "out/")[0] == 0
    assert len(rows()) == 5


def test_the_rows_have_what_detect_prints(run):
    _, out, _ = run("detect", "a.png", "b.jpg", "--threshold", "0.1")
    run("detect", "a.png", "b.jpg", "--threshold", "0.1", "-o", "out")
    printed = {row["file"]: row["detections"] for row in map(json.loads, out.splitlines())}
    for row in rows():
        whole = [{**d, "box": {side: int(v) for side, v in d["box"].items()}} for d in row["detections"]]
        assert [{k: v for k, v in d.items() if k != "class_id"} for d in whole] == printed[row["path"]]


def test_labels_and_thresholds_apply(run):
    run("detect", "a.png", "-o", "all", "--threshold", "0.01")
    run("detect", "a.png", "-o", "cats", "--threshold", "0.01", "--labels", "cat")
    (every,), (cats,) = rows("all"), rows("cats")
    assert cats["detections"] == [d for d in every["detections"] if d["label"] == "cat"]
    assert len(cats["detections"]) < len(every["detections"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard", "5/4", "-o", "out"], "--shard is wrong: found '5/4', expected 0/4 to 3/4"),
        (["--shard", "x", "-o", "out"], "--shard is wrong: found 'x', expected K/N with K from 0 to N-1, such as 3/64"),
        (["--shard", "0/4"], "--shard can be used only with -o; add -o DIR"),
        (["--batch-files", "4"], "--batch-files can be used only with -o; add -o DIR"),
        (["--retry"], "--retry can be used only with -o; add -o DIR"),
        (["--batch-files", "0", "-o", "out"], "--batch-files is wrong: found 0, expected 1 or more"),
        (["--format", "parquet"], "--format parquet can be used only with -o; add -o DIR"),
        (
            ["--format", "coco", "-o", "out"],
            "-o cannot write --format coco: expected ndjson or parquet",
        ),
        (["--save", "x/", "-o", "out"], "--save cannot be used with -o; leave one of them out"),
        (["-o", "-"], "-o needs a directory: found '-'; name a directory, or leave -o out for results on stdout"),
        (["-o", ""], "-o needs a directory: found ''; name a directory, or leave -o out for results on stdout"),
        (["@list.txt"], "the list @list.txt can be used only with -o; add -o DIR"),
        (["--threshold", "2", "-o", "out"], "the threshold is out of range: found 2.0, expected a number from 0 to 1"),
    ],
)
def test_wrong_usage_is_refused_before_a_model_is_opened(refused, options, words):
    assert refused("detect", "a.png", *options, status=2, model="no such model") == words
    assert not Path("out").exists()


def test_a_list_that_is_missing_is_refused_before_a_model_is_opened(refused):
    words = "the list none.txt cannot be read: found No such file or directory, expected one path per line"
    assert refused("detect", "@none.txt", "-o", "out", model="no such model") == words


def test_an_empty_list_is_an_error_and_the_other_images_are_done(run):
    Path("list.txt").touch()
    status, out, err = run("detect", "@list.txt", "a.png", "-o", "out")
    assert (status, out) == (1, "")
    assert err == f"{PREFIX}no paths in list.txt: expected one path per line; check the list\n"
    assert [row["path"] for row in rows()] == ["a.png"]


def test_another_threshold_in_the_same_directory_is_refused(run, refused):
    run("detect", "a.png", "-o", "out")
    words = "out has the rows of another job: found threshold 0.5, expected threshold 0.25; choose another directory"
    assert refused("detect", "a.png", "-o", "out", "--threshold", "0.25").startswith(words)


def test_a_file_in_place_of_the_directory_is_refused(refused):
    words = "cannot create the directory a.png: found a file of that name; choose another directory"
    assert refused("detect", "b.jpg", "-o", "a.png") == words


def test_a_list_of_missing_files_has_a_row_for_each(run):
    Path("list.txt").write_text("1.jpg\na.png\n2.jpg\n")
    assert run("detect", "@list.txt", "-o", "out")[0] == 0
    assert [row["error"] is None for row in rows()] == [False, True, False]


def test_parquet_without_pyarrow_names_the_extra(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    words = "Parquet needs the package pyarrow; run pip install 'detr-onnx[parquet]'"
    assert refused("detect", "a.png", "-o", "out", "--format", "parquet", model="no such model") == words


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(album, graph, run):
    resource = pytest.importorskip("resource")
    for number in range(40):
        sample_image(40, 30, number).save(f"deep/{number}.png")
    arguments = ["detect", ".", "-o", "out", "--engine", "onnxruntime", "-m", str(graph), "--threshold", "0.9"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))

    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "detr_onnx", *arguments, "--batch-files"]
    ended = subprocess.run(
        [*command, "30"], capture_output=True, text=True, env=environment, preexec_fn=limit, timeout=120
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"{PREFIX}cannot write out/part-000000.ndjson: found File too large; "
        "free some space, and run the same command again: it resumes\n"
    )
    assert [path.name for path in sorted(Path("out").iterdir())] == [".lock", "_job.json"]
    assert run("detect", ".", "-o", "out", "--engine", "onnxruntime", "--threshold", "0.9")[0] == 0
    assert len({row["path"] for row in rows()}) == len(rows()) == 43


@pytest.mark.skipif(sys.platform == "win32", reason="signals there are others")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_what_is_there_and_the_same_command_goes_on(album, graph, number):
    for i in range(60):
        sample_image(400, 300, i).save(f"deep/{i}.jpg")
    arguments = ["detect", ".", "-o", "out", "--engine", "onnxruntime", "-m", graph]
    with in_a_process(*arguments, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) as job:
        while not Path("out/_job.json").exists():
            time.sleep(0.01)
        job.send_signal(number)
        _, err = job.communicate(timeout=60)
    assert job.returncode == 128 + number
    assert err == b""
    assert not Path("out/_done.json").exists()
    some = len(rows())
    assert some < 63
    with in_a_process(*arguments) as job:
        job.communicate(timeout=120)
    assert job.returncode == 0
    assert len({row["path"] for row in rows()}) == len(rows()) == 63


def test_the_progress_line_has_rate_failures_and_time_left():
    assert progress_line(1200, 3, 200, 50.0, 10_000) == " 12%  1200/10000  4.0 images/s  3 failed  36:40 left"
    assert progress_line(5, 0, 5, 2.0, None) == "5  2.5 images/s  0 failed"
    assert progress_line(0, 0, 0, 0.0, 50_000_000).startswith("  0%  0/50000000  0.0 images/s")
    assert progress_line(1, 0, 1, 1.0, 10_001).endswith("2:46:40 left")


class Terminal:
    """A stderr that is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_the_progress_is_shown_on_a_terminal(album, graph, monkeypatch):
    from detr_onnx.cli import job_progress
    from detr_onnx.cli import main as cli

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(job_progress, "REFRESH_S", 0.0)
    assert cli.main(["detect", ".", "-m", str(graph), "-o", "out", "--engine", "onnxruntime"]) == 0
    assert "100%  3/3  " in terminal.text
    assert "0 failed" in terminal.text
