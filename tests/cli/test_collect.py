"""`collect`: the command line; its formats are in tests/jobs/test_collect.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from detr_onnx.cli.collect import FORMATS
from detr_onnx.jobs import collect
from tests.cli.command_line import complaint, in_a_process, outcome

pytest.importorskip("onnxruntime")


def test_the_formats_are_those_of_the_package():
    assert set(FORMATS) == set(collect.FORMATS)


def test_a_job_is_collected(run, capsys):
    run("detect", ".", "-o", "out", "--threshold", "0.1")
    assert outcome(["collect", "out", "-o", "coco.json"], capsys) == (0, "", "")
    assert sorted(image["file_name"] for image in json.loads(Path("coco.json").read_text())["images"]) == [
        "a.png", "b.jpg", "deep/c.png",
    ]  # fmt: skip
    assert outcome(["collect", "out", "-o", "labels", "--as", "yolo"], capsys)[0] == 0
    assert sorted(path.name for path in Path("labels/labels").rglob("*.txt")) == ["a.txt", "b.txt", "c.txt"]


def test_a_shard_that_is_missing_is_one_line(run, capsys):
    run("detect", ".", "-o", "out", "--shard", "0/2")
    words = "out is not complete: found unfinished shard 1 of 2; run the job again, or add --partial"
    assert complaint(outcome(["collect", "out", "-o", "all.ndjson"], capsys), 1).startswith(words)
    assert outcome(["collect", "out", "-o", "all.ndjson", "--partial"], capsys)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (
            ["deep", "-o", "x.json"],
            1,
            "there is no job in deep: found no _job.json; name the directory that detect -o wrote",
        ),
        (["deep", "-o", "x.txt"], 2, "the format of x.txt is not known: found the suffix '.txt'"),
    ],
)
def test_what_cannot_be_collected_is_one_line(album, capsys, arguments, status, words):
    assert complaint(outcome(["collect", *arguments], capsys), status).startswith(words)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /dev/stdout")
def test_a_reader_that_stops_reading_is_no_error(run):
    run("detect", ".", "-o", "out")
    process = in_a_process("collect", "out", "-o", "/dev/stdout", "--as", "csv")
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 0)
    process.stderr.close()
