"""Files that are not what their name says: one clear line, at once, whichever engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detr_onnx.engines.graph_file import check_graph_file
from detr_onnx.errors import ModelFileError
from detr_onnx.models.open import demo_directory
from tests.cli.command_line import PREFIX

AT_ONCE_S = 30  # of a whole process, most of it imports; without the check it was more than 40
FIVE_GB = 5 << 30


def demo_bytes() -> bytes:
    return (demo_directory() / "model.onnx").read_bytes()


CONTENTS = {
    "empty.onnx": b"",
    "text.onnx": b"hello, this is not a graph\n" * 50,
    "json.onnx": b'{"not": "a graph"}',
    "image.onnx": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(300),
    "zeros.onnx": bytes(1000),
    "endless-number.onnx": b"\xff" * 1000,
    "no-graph.onnx": b"\x08\x08",
    "no-graph-but-an-opset.onnx": b"\x08\x08\x42\x02\x10\x11",
    "cut-in-a-tag.onnx": b"\x08\x08\x80",
    "cut-before-a-number.onnx": b"\x08",
    "cut-before-a-length.onnx": b"\x08\x08\x3a",
    "text.xml": b"hello\n",
    "html.xml": b"<!DOCTYPE html><html></html>",
    "empty.xml": b"",
    "text.ort": b"hello\n",
    "empty.ort": b"",
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_is_not_what_its_suffix_says_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(CONTENTS[name])
    with pytest.raises(ModelFileError, match=r"is not (an ONNX file|a model of OpenVINO's|a file of ONNX Runtime's)"):
        check_graph_file(path)


@pytest.mark.parametrize("cut", [1, 100, 1000, 100_000])
def test_a_graph_that_was_cut_off_is_named(tmp_path, cut):
    path = tmp_path / "cut.onnx"
    path.write_bytes(demo_bytes()[:-cut])
    with pytest.raises(ModelFileError, match="is not an ONNX file: found"):
        check_graph_file(path)


def test_what_the_package_ships_passes():
    check_graph_file(demo_directory() / "model.onnx")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.onnx", b"\x3a\x00"),
        ("a.xml", b'<?xml version="1.0"?><net name="a"/>'),
        ("a.XML", b'\xef\xbb\xbf\n<net name="a"/>'),
    ],
)
def test_a_file_with_the_outermost_structure_of_its_format_passes(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert check_graph_file(tmp_path / name) == []


def test_a_directory_and_a_missing_file_are_named(tmp_path):
    for path, found in ((tmp_path, "a directory"), (tmp_path / "x.onnx", "no such file")):
        with pytest.raises(ModelFileError, match=found):
            check_graph_file(path)


def broken_files() -> dict[str, bytes]:
    """Contents with the right outermost structure, or the wrong one, that an engine might be loud about."""
    whole = bytearray(demo_bytes())
    whole[2000:4000] = b"\x55" * 2000
    return {"text.onnx": CONTENTS["text.onnx"], "scrambled.onnx": bytes(whole), "cut.onnx": demo_bytes()[:5000]}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["text.onnx", "scrambled.onnx", "cut.onnx", "sparse.onnx"])
def test_a_broken_graph_is_exactly_one_line_in_every_engine(tmp_path, engine, name):
    pytest.importorskip(engine)
    path = tmp_path / name
    if name == "sparse.onnx":
        with path.open("wb") as file:
            file.truncate(FIVE_GB)
    else:
        path.write_bytes(broken_files()[name])
    command = [sys.executable, "-m", "detr_onnx", "detect", "x.jpg", "-m", str(path), "--engine", engine]
    (tmp_path / "x.jpg").write_bytes(b"")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=AT_ONCE_S, cwd=tmp_path, env=environment())
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(PREFIX)
    assert ended.stderr.count("\n") == 1


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
