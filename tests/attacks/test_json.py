"""JSON that no parser should be given: every reader of outside JSON refuses it with its own error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from detr_onnx.bench.hosted.journal import open_journal
from detr_onnx.bench.hosted.responses import parse_response
from detr_onnx.cache import read_records
from detr_onnx.checkpoint.load import load_checkpoint, read_config
from detr_onnx.checkpoint.safetensors import read_safetensors
from detr_onnx.engines import Engine
from detr_onnx.errors import CheckpointError, DatasetError, DetrError, ModelFileError
from detr_onnx.evaluation.coco import parse_annotations, read_annotations, read_results
from detr_onnx.models.metadata import Description, describe_graph
from tests.fuzz.checkpoints import with_header

DEEP, DIGITS, MEGABYTES = 100_000, 400, 80
TRUTH = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "area": 4, "iscrowd": 0}],
}

TEXTS: dict[str, Callable[[], bytes]] = {
    "lists nested deep": lambda: b"[" * DEEP,
    "lists nested deep and closed": lambda: b"[" * DEEP + b"]" * DEEP,
    "objects nested deep": lambda: b'{"a": ' * DEEP + b"1" + b"}" * DEEP,
    "a value nested deep": lambda: b'{"id2label": %s}' % (b"[" * DEEP + b"]" * DEEP),
    "an integer of 400 digits": lambda: b'{"d_model": %s}' % (b"9" * DIGITS),
    "an integer of a million digits": lambda: b'{"d_model": %s}' % (b"9" * 1_000_000),
    "a fraction of 400 digits": lambda: b'{"d_model": 0.%s}' % (b"3" * DIGITS),
    "an exponent of a million digits": lambda: b'{"d_model": 1e%s}' % (b"9" * 1_000_000),
    "bytes that are not UTF-8": lambda: b'{"a": "\xff\xfe"}',
    "UTF-16": lambda: json.dumps({"a": 1}).encode("utf-16"),
    "a text of 80 MB": lambda: b'"' + b"x" * (MEGABYTES << 20) + b'"',
    "zeros": lambda: bytes(1000),
    "nothing": lambda: b"",
}


def written(path: Path, text: bytes) -> Path:
    path.write_bytes(text)
    return path


def read_journal(path: Path) -> None:
    with open_journal(path):
        pass


def metadata_of(name: str) -> Callable[[Path, bytes], Any]:
    """Reads the text as a part of a graph's metadata."""

    def read(directory: Path, text: bytes) -> Any:
        metadata = {
            "detr_onnx.config": "{}",
            "detr_onnx.preprocessing": "{}",
            name: text.decode("utf-8", "surrogateescape"),
        }
        engine = Engine("a test", lambda pixels, mask: (pixels, pixels), metadata=metadata)
        labels = ("cat",) if name == "detr_onnx.preprocessing" else None
        return describe_graph(directory / "model.onnx", engine, None, labels)

    return read


READERS: Mapping[str, tuple[type[DetrError], Callable[[Path, bytes], Any]]] = {
    "config.json": (CheckpointError, lambda d, text: (written(d / "config.json", text), read_config(d))),
    "preprocessor_config.json": (
        CheckpointError,
        lambda d, text: (written(d / "preprocessor_config.json", text), Description.of(d).read_preprocessing()),
    ),
    "processor_config.json": (
        CheckpointError,
        lambda d, text: (written(d / "processor_config.json", text), Description.of(d)),
    ),
    "the index of shards": (
        CheckpointError,
        lambda d, text: load_checkpoint(written(d / "model.safetensors.index.json", text)),
    ),
    "the header of safetensors": (
        CheckpointError,
        lambda d, text: read_safetensors(written(d / "model.safetensors", with_header(text, b""))),
    ),
    "a graph's config": (ModelFileError, metadata_of("detr_onnx.config")),
    "a graph's preprocessing": (ModelFileError, metadata_of("detr_onnx.preprocessing")),
    "annotations": (DatasetError, lambda d, text: read_annotations(written(d / "truth.json", text))),
    "results": (
        DatasetError,
        lambda d, text: read_results(written(d / "results.json", text), parse_annotations(TRUTH, "truth.json")),
    ),
    "a journal": (DatasetError, lambda d, text: read_journal(written(d / "journal.jsonl", text + b"\n"))),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_it_in_one_short_sentence(reader, text, tmp_path):
    error, read = READERS[reader]
    if (reader, text) in {("a journal", "nothing"), ("a journal", "zeros")}:
        pytest.skip("an empty line is no line; zeros are tested with the other journals")
    with pytest.raises(error) as refusal:
        read(tmp_path, TEXTS[text]())
    assert len(str(refusal.value)) < 1500


@pytest.mark.parametrize("text", TEXTS)
def test_a_manifest_of_the_cache_is_damaged(text, tmp_path):
    assert read_records(written(tmp_path / "manifest.json", TEXTS[text]())) == {}


@pytest.mark.parametrize("text", [name for name in TEXTS if name != "a text of 80 MB"])
@pytest.mark.parametrize("dialect", ["cloudflare", "huggingface"])
def test_a_response_of_a_remote_api_is_a_failure(dialect, text):
    assert parse_response(dialect, 200, TEXTS[text]()).outcome == "failed"
