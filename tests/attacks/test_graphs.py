"""Graph files that are sparse, endless, or whose texts are not text."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_onnx.engines.graph_file import check_graph_file
from detr_onnx.engines.options import EngineOptions
from detr_onnx.engines.table import ENGINES
from detr_onnx.errors import ModelFileError
from detr_onnx.models.metadata import describe_graph
from detr_onnx.models.open import demo_directory, open_model
from tests.attacks.test_files import FIVE_GB

ORT_START = b"\x18\x00\x00\x00ORTM"
METADATA = 14  # field of ONNX's ModelProto


def field(number: int, value: bytes) -> bytes:
    """A field of a protobuf message."""
    length, size = len(value), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + value


def with_metadata(file: Path, key: bytes, value: bytes) -> Path:
    """The demo model with one more entry in its metadata."""
    entry = field(METADATA, field(1, key) + field(2, value))
    file.write_bytes((demo_directory() / "model.onnx").read_bytes() + entry)
    return file


@pytest.mark.parametrize("start", [b"", b"<?xml", ORT_START, "demo"])
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_sparse_file_of_gigabytes_is_refused_by_its_size(tmp_path, suffix, start):
    path = tmp_path / f"sparse{suffix}"
    with path.open("wb") as file:
        file.write((demo_directory() / "model.onnx").read_bytes() if isinstance(start, str) else start)
        file.truncate(FIVE_GB)
    with pytest.raises(ModelFileError, match="5368709120 bytes"):
        check_graph_file(path)


@pytest.mark.parametrize("content", [b"\x0a\x00" * 1_000_000, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x80" * 9])
def test_fields_without_number_or_end_are_refused(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="is not an ONNX file"):
        check_graph_file(path)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("key", "value"), [(b"note", b"\xff\xfe"), (b"\xff\xfe", b"x")])
def test_metadata_that_is_not_utf_8_is_refused(engine, key, value, tmp_path):
    pytest.importorskip(engine)
    with pytest.raises(ModelFileError, match=r"has names or metadata that are not text: found bytes b'.xff.xfe'"):
        open_model(with_metadata(tmp_path / "model.onnx", key, value), EngineOptions(engine))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_precision_cannot_steer_the_terminal(engine, tmp_path):
    pytest.importorskip(engine)
    graph = with_metadata(tmp_path / "model.onnx", b"detr_onnx.precision", b"\x1b[31m\n" * 1000)
    title = open_model(graph, EngineOptions(engine)).engine.title
    assert title.isprintable()
    assert len(title) < 150


def test_five_megabytes_of_metadata_give_a_short_message(tmp_path):
    engine = ENGINES["onnxruntime"]
    assert engine.graphs
    graph = with_metadata(tmp_path / "model.onnx", b"detr_onnx.config", b"x" * 5_000_000)
    opened = engine.graphs.open(graph, EngineOptions("onnxruntime"))
    with pytest.raises(ModelFileError, match="has metadata that cannot be read") as refusal:
        describe_graph(graph, opened, None, None)
    assert len(str(refusal.value)) < 1500
