"""Weights and configs with numbers, shapes and names that no model has."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_onnx.checkpoint.huggingface_config import config_from_huggingface
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.checkpoint.safetensors import read_safetensors, write_safetensors
from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import CheckpointError
from detr_onnx.models.open import open_model
from detr_onnx.network.config import DetrConfig
from tests.attacks.test_files import pipe
from tests.checkpoint.test_safetensors import EIGHT, ONE, entry, written
from tests.fuzz.checkpoints import TINY, with_header, with_offsets
from tests.parity.seeded import SPELLINGS, seeded_tensors, spelled, write_checkpoint

# Headers of safetensors


@pytest.mark.parametrize(
    ("header", "buffer", "complaint"),
    [
        ({"x": entry("F32", [0, 1 << 62], 0, 0)}, b"", r"shape \[0, 4611686018427387904\]"),
        ({"x": entry("F32", [0, 1 << 70], 0, 0)}, b"", "at most 8 integers"),
        ({"x": entry("F32", [1] * 1_000_000, 0, 4)}, bytes(4), "at most 8 integers"),
        ({"x": entry("F32", [10**400], 0, 8)}, EIGHT, "more than 100 digits"),
        ({f"x{i}": entry("F32", [0], 0, 0) for i in range(70_000)}, b"", "a header of"),
    ],
    ids=["empty and enormous", "beyond 64 bits", "a million axes", "400 digits", "70,000 tensors"],
)
def test_a_header_of_absurd_shapes_is_refused(header, buffer, complaint, tmp_path):
    with pytest.raises(CheckpointError, match=complaint):
        read_safetensors(written(tmp_path, header, buffer))


@pytest.mark.parametrize("length", [10_000_000_000, 1 << 63, (1 << 64) - 1, 100])
def test_a_header_longer_than_the_file_is_refused(length, tmp_path):
    with pytest.raises(CheckpointError, match=f"a header of {length:,} bytes in a file of"):
        read_safetensors(written(tmp_path, ONE, EIGHT, length=length))


def test_a_header_of_more_than_four_megabytes_is_refused_unread(tmp_path):
    file = tmp_path / "model.safetensors"
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", 5 << 20))
        opened.truncate(6 << 20)
    with pytest.raises(CheckpointError, match="a header of 5,242,880 bytes"):
        read_safetensors(file)


# Shapes from which a config is derived: an empty tensor may say anything


def tiny_with_shape(directory: Path, name: str, shape: list[int]) -> Path:
    """A bare file of a tiny model in which one tensor, empty now, has this shape."""
    file = directory / "model.safetensors"
    write_safetensors(file, spelled(seeded_tensors(TINY, 1), SPELLINGS["huggingface-native"]))
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header[next(key for key in header if name in key)]["shape"] = shape
    file.write_bytes(with_header(*with_offsets(json.dumps(header).encode(), data[end:])))
    return file


@pytest.mark.parametrize("shape", [[1 << 26, 0], [1 << 47, 0], [0, 1 << 47], [70_000, 0], [0, 0]])
@pytest.mark.parametrize("name", ["class_labels_classifier.weight", "query_position_embeddings.weight", "fc1.weight"])
def test_a_model_of_two_to_the_47_classes_is_refused_at_once(name, shape, tmp_path):
    with pytest.raises(CheckpointError, match=r"the tensors of .* are not a DETR's: found .* of shape"):
        load_checkpoint(tiny_with_shape(tmp_path, name, shape))


# Configs


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"encoder_layers": 257}, "encoder_layers is wrong: found 257, expected an integer from 1 to 256"),
        ({"decoder_layers": 65536}, "an integer from 1 to 256"),
        ({"num_queries": 10**400}, "from 1 to 65536"),
        ({"d_model": 1 << 40}, "from 1 to 65536"),
        ({"num_labels": 1 << 40}, "from 1 to 65536"),
        ({"id2label": {str(i): "a" for i in range(65537)}}, "does not number the classes"),
        ({"id2label": {str(2**70): "cat", "0": {}}}, "does not name class 0"),
        ({"backbone_config": {"model_type": "resnet", "depths": [3, 4, 65536, 3]}}, "depths is wrong: found 65536"),
        ({"backbone_config": {"model_type": "resnet", "depths": [3] * 1_000_000}}, "a list with a number for each"),
        ({"backbone_config": {"model_type": "x" * 5_000_000}}, "cannot run"),
    ],
)
def test_a_config_of_absurd_numbers_is_refused_in_a_short_sentence(fields, complaint):
    with pytest.raises(CheckpointError, match=complaint) as refusal:
        config_from_huggingface({"model_type": "detr", **fields}, "config.json")
    assert len(str(refusal.value)) < 4000


def test_a_written_config_of_65536_layers_is_refused():
    with pytest.raises(CheckpointError, match="from 1 to 256"):
        DetrConfig.from_fields({**json.loads(json.dumps(TINY.to_fields())), "encoder_layers": 65536})


# Indexes of sharded weights


@pytest.mark.parametrize(
    "name",
    ["x" * 300 + ".safetensors", "../a.safetensors", "/etc/a.safetensors", "a\0.safetensors", "\ud800.safetensors",
     "a\n.safetensors", "..\\a.safetensors", "model.bin", 5, None, ["a.safetensors"]],
)  # fmt: skip
def test_an_index_names_files_beside_it(name: Any, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(CheckpointError, match="is not an index of sharded weights"):
        load_checkpoint(index)


def test_an_index_of_a_pipe_is_refused(tmp_path):
    pipe(tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors"}}))
    with pytest.raises(CheckpointError, match="cannot be read: found not a file"):
        load_checkpoint(index)


def test_an_index_that_names_itself_is_refused(tmp_path):
    index = tmp_path / "model.safetensors.index.json.safetensors"
    index.write_text(json.dumps({"weight_map": {"x": index.name}}))
    with pytest.raises(CheckpointError, match="is not a valid safetensors file"):
        load_checkpoint(index)


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime", "openvino"])
def test_a_sparse_checkpoint_is_refused_before_it_is_hashed(engine, tmp_path):
    pytest.importorskip(engine)
    pytest.importorskip("onnx")
    write_checkpoint(tmp_path, TINY, 1)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="is not a valid safetensors file"):
        open_model(tmp_path, EngineOptions(engine), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    tensors = spelled(seeded_tensors(TINY, 1), SPELLINGS["huggingface-native"])
    name = next(iter(tensors))
    tensors[name].reshape(-1)[0] = value
    write_safetensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match="1 values that are NaN or infinite"):
        load_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "processor_config.json"])
def test_a_sparse_config_is_not_read(engine, name, tmp_path):
    pytest.importorskip("onnx")
    write_checkpoint(tmp_path, TINY, 1)
    with (tmp_path / name).open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="is too large"):
        open_model(tmp_path, EngineOptions(engine), cache_dir=tmp_path / "cache")
