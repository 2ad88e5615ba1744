"""Checkpoints: safetensors files, indexes of sharded weights, and config.json."""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from detr_onnx.checkpoint.files import weight_files
from detr_onnx.checkpoint.huggingface_config import config_from_huggingface
from detr_onnx.checkpoint.load import Checkpoint, checkpoint_of, load_checkpoint
from detr_onnx.checkpoint.safetensors import DTYPES, read_safetensors, write_safetensors
from detr_onnx.checkpoint.tensor_shapes import expected_shapes
from detr_onnx.errors import CheckpointError
from detr_onnx.json_input import parse_object
from detr_onnx.network.config import DetrConfig, ResNetConfig
from tests.fuzz.inputs import directory, written
from tests.fuzz.mutate import mutate_bytes, mutate_json, mutate_json_text
from tests.fuzz.run import Kind
from tests.parity.seeded import SPELLINGS, huggingface_config, seeded_tensors, spelled, write_checkpoint

TINY = DetrConfig(ResNetConfig("basic", (1, 1, 1), (8, 8, 8), 8), 8, 1, 1, 8, 8, 8, 8, 3, ("cat", "dog"))
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
DEMO_CONFIG = Path(__file__).parents[2] / "weights" / "demo" / "config.json"

ODD_NUMBERS = (2, 3, 8, 9, 64, 255, 256, 257, 65535, 65536, 65537, 2**31, 2**47, 2**62, 2**63, 2**70, "8", [8])
ODD_SHAPES = ([], [0], [0, 2**40], [2**47, 0], [0, 2**70], [1] * 9, [1] * 100_000, [3, 8], [8], [8, 8], [-1], [8.0])
ODD_SPANS = ([0, 0], [0, 4], [4, 0], [0, 2**63 - 1], [0, 2**64], [-4, 0], [0, 4, 8], *([n, n + 32] for n in (0, 32)))
ODD_DTYPES = (*DTYPES, "F8_E4M3", "I8", "")
ODD_HEADER = (*ODD_NUMBERS, *ODD_SHAPES, *ODD_SPANS, *ODD_DTYPES)
ODD_SHARDS = (*SHARDS, "x" * 300 + ".safetensors", "../" + SHARDS[0], "a\0.safetensors", "\ud800.safetensors",
              ".safetensors", "missing.safetensors", "index.json")  # fmt: skip
ODD_FIELDS = (*ODD_NUMBERS, "resnet18", "resnet50", "resnet", "detr", "basic", "stage9", ["stage3"], [1, 1, 1],
              [256] * 4, {"0": None}, {"0": 5}, {"1": "cat"}, {"5": ["cat"]}, {"x": "cat"},
              {str(2**70): "cat"})  # fmt: skip


# Safetensors files


@functools.cache
def safetensors_seeds() -> Mapping[str, bytes]:
    """A tensor of each dtype, and a tiny model in each naming."""
    tensors = seeded_tensors(TINY, 1)
    files = {"dtypes": _of_every_dtype()}
    for name, naming in SPELLINGS.items():
        file = directory("seeds") / "seed.safetensors"
        write_safetensors(file, spelled(tensors, naming))
        files[name] = file.read_bytes()
    return files


def _of_every_dtype() -> bytes:
    header, buffer = {}, b""
    for name, dtype in DTYPES.items():
        data = np.ones((2, 3), dtype).tobytes()
        header[name] = {"dtype": name, "shape": [2, 3], "data_offsets": [len(buffer), len(buffer) + len(data)]}
        buffer += data
    return with_header(json.dumps(header).encode(), buffer)


def with_header(text: bytes, buffer: bytes) -> bytes:
    """A safetensors file with this header."""
    return struct.pack("<Q", len(text)) + text + buffer


def mutate_safetensors(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Values or bytes of the header are changed and its length corrected, or any bytes of the file."""
    if random.random() < 0.2:
        return mutate_bytes(random, data, others)
    end = 8 + int.from_bytes(data[:8], "little")
    text, buffer = data[8:end], data[end:]
    if random.random() < 0.3:
        return with_header(mutate_bytes(random, text, others), buffer)
    text = mutate_json(random, text, ODD_HEADER)
    return with_header(*with_offsets(text, buffer)) if random.random() < 0.5 else with_header(text, buffer)


def with_offsets(text: bytes, buffer: bytes) -> tuple[bytes, bytes]:
    """The header with offsets that fit its shapes, and a buffer of that length, where they are not absurd.

    Without this, hardly any input would get past the check of the header.
    """
    header, end = json.loads(text), 0
    for entry in header.values() if isinstance(header, dict) else ():
        try:
            length = math.prod(entry["shape"]) * DTYPES[entry["dtype"]].itemsize
        except (TypeError, KeyError, AttributeError):
            continue
        if isinstance(length, int) and 0 <= length <= len(buffer):
            entry["data_offsets"] = [end, end + length]
            end += length
    return json.dumps(header).encode(), (buffer * 9)[:end]


def read_safetensors_file(data: bytes) -> str:
    """Reads every tensor, and the model if it is one."""
    file = written("model.safetensors", data)
    tensors = read_safetensors(file)
    for tensor in tensors.values():
        with np.errstate(all="ignore"):
            tensor.sum()
    if sum(tensor.nbytes for tensor in tensors.values()) > 2 * len(data):  # bfloat16 takes two bytes
        raise AssertionError("the tensors are larger than the file")
    return "tensors of every dtype" if set(tensors) == set(DTYPES) else _checked(load_checkpoint(file))


def _checked(checkpoint: Checkpoint) -> str:
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    if shapes != expected_shapes(checkpoint.config):
        raise AssertionError("the tensors do not fit the config")
    if not all(np.isfinite(tensor).all() for tensor in checkpoint.tensors.values()):
        raise AssertionError("a tensor is not finite")
    return "a model"


# Indexes of sharded weights


@functools.cache
def index_seeds() -> Mapping[str, bytes]:
    """The index of a tiny model in two files, which are written beside it."""
    home = directory("shards")
    write_checkpoint(home, TINY, 1)
    tensors = read_safetensors(home / "model.safetensors")
    weight_map = {name: SHARDS[number % 2] for number, name in enumerate(tensors)}
    for shard in SHARDS:
        write_safetensors(home / shard, {name: tensors[name] for name in tensors if weight_map[name] == shard})
    return {"index": json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()}


def mutate_index(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return mutate_json_text(random, data, others, ODD_SHARDS)


def read_index(data: bytes) -> str:
    """Reads the model of an index."""
    index_seeds()
    file = directory("shards") / "model.safetensors.index.json"
    file.write_bytes(data)
    weight_files(file)
    return _checked(load_checkpoint(file))


# Model configs


@functools.cache
def config_seeds() -> Mapping[str, bytes]:
    """Configs of both generations of Hugging Face's fields."""
    older = {"model_type": "detr", "backbone": "resnet18", "dilation": False, "num_labels": 3, "d_model": 8}
    values: dict[str, Any] = {
        "native": huggingface_config(TINY),
        "timm": huggingface_config(DetrConfig(ResNetConfig(dilation=True))),
        "table-transformer": huggingface_config(DetrConfig(TINY.backbone, labels=("table",), pre_norm=True)),
        "2021": {**older, "id2label": {str(number): f"thing {number}" for number in range(3)}},
        "demo": json.loads(DEMO_CONFIG.read_text()),
    }
    return {name: json.dumps(value).encode() for name, value in values.items()}


def mutate_config(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return mutate_json_text(random, data, others, ODD_FIELDS)


@functools.cache
def tiny_tensors() -> dict[str, Any]:
    """The tensors of the model that the first config describes."""
    return spelled(seeded_tensors(TINY, 1), SPELLINGS["huggingface-native"])


def read_config(data: bytes) -> str:
    """Reads a config, and the tiny model with it."""
    config = config_from_huggingface(parse_object(data, "config.json"), "config.json")
    if not config.labels or not all(isinstance(name, str) for name in config.labels):
        raise AssertionError(f"{config.labels!r} are not names")
    if DetrConfig.from_fields(json.loads(json.dumps(config.to_fields()))) != config:
        raise AssertionError(f"{config} is not read as it is written")
    try:
        checkpoint_of(tiny_tensors(), config, "the file")
    except CheckpointError:
        return "a config of another model"
    return "the model's config"


SAFETENSORS = Kind(safetensors_seeds, mutate_safetensors, read_safetensors_file, (CheckpointError,), 15)
SHARDED_INDEXES = Kind(index_seeds, mutate_index, read_index, (CheckpointError,), 5)
MODEL_CONFIGS = Kind(config_seeds, mutate_config, read_config, (CheckpointError,), 10)
