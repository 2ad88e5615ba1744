"""Every file that a command writes: on a full disk there is one line, exit status 1, and no truncated file.

A limit on the size of files stands for the full disk: the first write is short, the next one fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.annotated_images import write_annotated_images
from tests.cli.command_line import PREFIX, ROOT

pytest.importorskip("onnxruntime")
resource = pytest.importorskip("resource")

LIMIT_BYTES = 700
EVALUATE = ("evaluate", "--images", "images", "--annotations", "truth.json", "-m")


def run_with_small_files(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process whose files cannot exceed `LIMIT_BYTES`."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))

    command = [sys.executable, "-m", "detr_onnx", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=limit, timeout=120)


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """The working directory, with annotated images."""
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_annotated_images(tmp_path)
    return tmp_path


@pytest.mark.parametrize("older", [None, b"older"])
@pytest.mark.parametrize("name", ["out.jpg", "out.png", "out.webp", "out.tiff", "out.gif", "out.bmp"])
def test_an_annotated_image_is_whole_or_not_there(album, graph, name, older):
    if older is not None:
        Path(name).write_bytes(older)
    before = {path: path.read_bytes() for path in album.iterdir() if path.is_file()}
    ended = run_with_small_files("detect", "images/a.png", "-m", graph, "--engine", "onnxruntime", "--save", name)
    assert ended.returncode == 1
    assert ended.stderr == f"{PREFIX}cannot write {name}: found File too large\n"
    assert isinstance(json.loads(ended.stdout), list)
    assert {path: path.read_bytes() for path in album.iterdir() if path.is_file()} == before


def test_a_results_file_is_whole_or_not_there_and_the_figures_are_printed(album, graph):
    pytest.importorskip("pycocotools")
    before = {path.name for path in album.iterdir()}
    ended = run_with_small_files(*EVALUATE, graph, "--engine", "onnxruntime", "--save-results", "rows.json")
    assert (ended.returncode, "AP50" in ended.stdout) == (1, True)
    assert ended.stderr == f"{PREFIX}cannot write rows.json: found File too large; choose another file\n"
    assert {path.name for path in album.iterdir()} == before


@pytest.mark.parametrize("options", [["m.onnx"], ["m.onnx", "--external-data"], ["m.ort"]])
def test_an_exported_model_is_whole_or_not_there(album, small, options):
    pytest.importorskip("onnx")
    before = {path.name for path in album.iterdir()}
    ended = run_with_small_files("export", small, "-o", *options)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"{PREFIX}{options[0]} cannot be written: found File too large; choose another file\n"
    assert {path.name for path in album.iterdir()} == before
