"""Manifests of cache entries: whatever was done to one, the entry is built again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from detr_onnx.cache import cached
from tests.attacks.test_files import pipe

CONTENT = b"graph"


def record(name: str = "model.onnx", **changes: object) -> bytes:
    """A manifest of one file, with changes in its record."""
    row = {"bytes": 5, "modified_ns": 5, "sample": "0" * 64, "sha256": hashlib.sha256(b"graph").hexdigest()}
    return json.dumps({name: row | changes}).encode()


MANIFESTS = {
    "nested": b'{"a": ' * 100_000,
    "a time beyond time": record(modified_ns=10**90),
    "a number of 400 digits": record(bytes=10**400),
    "words for numbers": record(bytes="five", modified_ns=None),
    "an unknown field": record(other=1),
    "a null character": record("model\0"),
    "half a character": record("\ud800"),
    "a device": record("/dev/zero"),
    "a file elsewhere": record("../../other"),
    "a name that is too long": record("x" * 5000),
    "a list": b"[1]",
    "NaN": record(bytes=float("nan")),
}


@pytest.fixture
def entry(tmp_path) -> Path:
    return built(tmp_path)


def built(directory: Path) -> Path:
    return cached("model", lambda fresh: (fresh / "model.onnx").write_bytes(CONTENT), cache_dir=directory)


def check_rebuilt(directory: Path) -> None:
    entry = built(directory)
    assert (entry / "model.onnx").read_bytes() == CONTENT
    assert set(json.loads((entry / "manifest.json").read_text())) == {"model.onnx"}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_damaged_manifest_is_written_again(name, entry, tmp_path):
    (entry / "manifest.json").write_bytes(MANIFESTS[name])
    (entry / "model.onnx").write_bytes(b"damaged too")
    check_rebuilt(tmp_path)


def test_a_sparse_manifest_is_not_read(entry, tmp_path):
    os.truncate(entry / "manifest.json", 1 << 40)
    check_rebuilt(tmp_path)


def test_a_directory_in_place_of_the_manifest_is_replaced(entry, tmp_path):
    (entry / "manifest.json").unlink()
    (entry / "manifest.json").mkdir()
    check_rebuilt(tmp_path)


def test_pipes_in_place_of_the_files_are_replaced(entry, tmp_path):
    for name in ("model.onnx", "manifest.json"):
        (entry / name).unlink()
        pipe(entry / name)
    check_rebuilt(tmp_path)
