"""Paths to pipes, devices, endless and enormous files: every reader of files refuses them at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from detr_onnx import Detector
from detr_onnx.bench.hosted.journal import open_journal
from detr_onnx.checkpoint.files import weights_file
from detr_onnx.checkpoint.safetensors import read_safetensors
from detr_onnx.engines.graph_file import check_graph_file
from detr_onnx.errors import DetrError
from detr_onnx.evaluation.coco import parse_annotations, read_annotations, read_results
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.files import find_images
from detr_onnx.json_input import read_json
from detr_onnx.models.open import open_model
from tests.attacks.test_json import TRUTH
from tests.cli.command_line import PREFIX, outcome

FIVE_GB = 5 << 30
SCENE = Path(__file__).parents[2] / "examples" / "demo-scene.jpg"
TOO_LONG = "x" * 300  # a name; most file systems allow 255 bytes

READERS: Mapping[str, tuple[str, Callable[[Path], Any]]] = {
    "safetensors": (".safetensors", read_safetensors),
    "a checkpoint": (".safetensors", lambda path: open_model(path).engine),
    "an ONNX file": (".onnx", check_graph_file),
    "an ONNX model": (".onnx", lambda path: open_model(path).engine),
    "OpenVINO's format": (".xml", check_graph_file),
    "ONNX Runtime's format": (".ort", check_graph_file),
    "JSON": (".json", read_json),
    "annotations": (".json", read_annotations),
    "results": (".json", lambda path: read_results(path, parse_annotations(TRUTH, "truth.json"))),
}


def pipe(path: Path) -> Path:
    """A pipe without a writer: opening it would block."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(path)
    return path


def endless(path: Path) -> Path:
    """A link to a device that never ends."""
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero here")
    path.symlink_to("/dev/zero")
    return path


def sparse(path: Path) -> Path:
    """A file of 5 GB that takes no space."""
    with path.open("wb") as file:
        file.truncate(FIVE_GB)
    return path


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def link_to_itself(path: Path) -> Path:
    path.symlink_to(path)
    return path


def overlong(path: Path) -> Path:
    """A name that no file can have."""
    return path.with_name(TOO_LONG + path.suffix)


def with_a_null(path: Path) -> Path:
    return path.with_name("a\0b" + path.suffix)


@pytest.mark.parametrize("make", [pipe, endless, sparse, directory, link_to_itself, overlong, with_a_null])
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_it(reader, make, tmp_path):
    suffix, read = READERS[reader]
    with pytest.raises(DetrError) as refusal:
        read(make(tmp_path / f"file{suffix}"))
    assert len(str(refusal.value)) < 1500


@pytest.mark.parametrize("make", [sparse, directory, link_to_itself, overlong, with_a_null])
def test_an_image_is_refused(make, tmp_path):  # pipes and devices are read in time, see tests/image/test_streams.py
    with pytest.raises(DetrError):
        read_rgb(make(tmp_path / "file.jpg"))


@pytest.mark.parametrize("make", [endless, directory, link_to_itself, overlong, with_a_null])
def test_a_journal_is_refused(make, tmp_path):
    with pytest.raises(DetrError), open_journal(make(tmp_path / "journal.jsonl")):
        pass


@pytest.mark.parametrize("argument", [f"{TOO_LONG}.jpg", TOO_LONG, "a\0b.jpg", f"{TOO_LONG}/*.jpg"])
def test_an_argument_that_no_file_can_have_is_an_error_for_detect(argument):
    _, errors = find_images([argument])
    assert errors
    assert all(isinstance(error, DetrError) for error in errors)


@pytest.mark.parametrize("path", [TOO_LONG, "a\0b"])
def test_a_config_or_directory_that_nobody_can_have_is_refused(path, tmp_path):
    with pytest.raises(DetrError):
        Detector("demo", config=path)
    with pytest.raises(DetrError):
        weights_file(tmp_path / path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "demo", "-o", f"{TOO_LONG}.onnx"),
        ("export", "demo", "-o", "a.onnx", "--config", TOO_LONG),
        ("export", "demo", "-o", "a.onnx", "--precision", "int8", "--calibrate", TOO_LONG),
        ("bench", "-m", "demo", "--image", f"{TOO_LONG}.jpg"),
        ("bench", "-m", "demo", "--json", f"{TOO_LONG}.json"),
        ("detect", "SCENE", "-m", f"{TOO_LONG}.onnx"),
        ("detect", "SCENE", "-m", "demo", "--save", f"{TOO_LONG}.jpg"),
        ("evaluate", "--images", TOO_LONG, "--annotations", f"{TOO_LONG}.json", "-m", "demo"),
    ],
    ids=lambda arguments: " ".join(argument[:12] for argument in arguments),
)
def test_a_command_names_it_in_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, errors = outcome([SCENE if argument == "SCENE" else argument for argument in arguments], capsys)
    assert status in (1, 2)
    assert errors.splitlines()[-1].startswith(PREFIX)
    assert "bug" not in errors
