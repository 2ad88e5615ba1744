"""Weights in files beside the graph: found under any name, and missing, short or foreign ones are named."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detr_onnx import Detector
from detr_onnx.checkpoint.files import LFS_POINTER
from detr_onnx.engines import external_data
from detr_onnx.engines.external_data import external_files
from detr_onnx.engines.graph_file import check_graph_file
from detr_onnx.engines.openvino import openvino_engine
from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import ModelFileError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.load import Source
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory, model_files, open_model
from tests.small_model import LABELS

onnx = pytest.importorskip("onnx")

ENGINES = ["onnxruntime", "openvino"]
DATA = "weights of m.bin"


@pytest.fixture
def split(small, tmp_path) -> Path:
    """A graph whose weights are in a file of an arbitrary name."""
    whole = tmp_path / "whole.onnx"
    write_onnx(whole, *read_model(small), ExportOptions())
    path = tmp_path / "m.onnx"
    onnx.save(onnx.load(whole), path, save_as_external_data=True, location=DATA, size_threshold=1024)
    whole.unlink()
    return path


def with_location(path: Path, location: str) -> None:
    """Lets the tensors of a graph be in another file."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())


def test_a_graph_without_external_data_has_no_weight_files(tmp_path):
    assert external_files(demo_directory() / "model.onnx") == []
    (tmp_path / "m.xml").write_text("<net/>")
    assert external_files(tmp_path / "m.xml") == []


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_under_any_name_are_found_and_counted(split, engine):
    pytest.importorskip(engine)
    files = [split, split.with_name(DATA)]
    assert open_model(split, EngineOptions(engine)).files == tuple(files)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert Detector(split, engine=engine).sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_the_names_of_weights_are_read_once(split, monkeypatch):
    pytest.importorskip("openvino")
    reads = []
    bytes_needed = external_data._bytes_needed
    monkeypatch.setattr(external_data, "_bytes_needed", lambda path: reads.append(path) or bytes_needed(path))
    openvino_engine(split)
    assert reads == [split]


def test_the_weights_of_openvinos_format_are_its_bin_file(tmp_path):
    for name in ("m.XML", "m.bin"):
        (tmp_path / name).write_text("<net/>")
    assert model_files(Source(None, tmp_path / "m.XML")) == [tmp_path / "m.XML", tmp_path / "m.bin"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("place", ["Größe 2/模型 é.onnx", "sub"])
def test_graphs_and_weights_may_have_any_name(split, tmp_path, engine, place):
    pytest.importorskip(engine)
    if place == "sub":
        (split.parent / "sub").mkdir()
        split.with_name(DATA).rename(split.parent / "sub" / DATA)
        with_location(split, f"sub/{DATA}")
        path = split
    else:
        path = tmp_path / place
        path.parent.mkdir()
        split.rename(path)
        split.with_name(DATA).rename(path.with_name(DATA))
    assert open_model(path, EngineOptions(engine)).labels == LABELS


@pytest.mark.parametrize("engine", ENGINES)
def test_a_snapshot_of_the_hub_whose_files_are_links_is_run(split, tmp_path, engine):
    pytest.importorskip(engine)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1d5f47b"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate((split, split.with_name(DATA))):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", str(number)))
    assert open_model(snapshot / "m.onnx", EngineOptions(engine)).labels == LABELS


def cut(path: Path) -> None:
    data = path.with_name(DATA)
    data.write_bytes(data.read_bytes()[:-1])


HARMS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: path.with_name(DATA).unlink(), "has its weights in another file: found no file .*; copy"),
    "a directory": (
        lambda path: (path.with_name(DATA).unlink(), path.with_name(DATA).mkdir()),
        "has its weights in another file: found no file",
    ),
    "cut": (cut, r"is too short for the weights of .*: found \d+ bytes, expected \d+ or more"),
    "a pointer": (
        lambda path: path.with_name(DATA).write_bytes(LFS_POINTER + b"v1\n"),
        "is a git-lfs pointer, not its weights: .*; run git lfs pull",
    ),
    "above": (lambda path: with_location(path, f"../{DATA}"), "has weights outside its directory: found '../weights"),
    "absolute": (lambda path: with_location(path, "/etc/passwd"), "has weights outside its directory: found '/etc"),
    "a control character": (lambda path: with_location(path, "a\0b"), "found no file"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("harm", HARMS)
def test_weights_that_cannot_be_used_are_named(split, engine, harm):
    pytest.importorskip(engine)
    spoil, message = HARMS[harm]
    spoil(split)
    with pytest.raises(ModelFileError, match=message):
        open_model(split, EngineOptions(engine))


@pytest.mark.parametrize("value", ["-1", "x", "9" * 30])
def test_an_offset_that_is_not_a_number_is_a_damaged_file(split, value):
    model = onnx.load(split, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = value if entry.key == "offset" else entry.value
    split.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="is not an ONNX file: found a damaged message"):
        check_graph_file(split)


def test_a_git_lfs_pointer_that_the_graph_does_not_name_is_ignored(tmp_path):
    path = Path(shutil.copy(demo_directory() / "model.onnx", tmp_path / "m.onnx"))
    (tmp_path / "m.onnx.data").write_bytes(LFS_POINTER)
    check_graph_file(path)
