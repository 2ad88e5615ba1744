"""Graph files: the check of their outermost structure, their metadata, and whole graphs in ONNX Runtime."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np

from detr_onnx.engines import Engine
from detr_onnx.engines.graph_file import check_graph_file
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.errors import ModelFileError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.metadata import describe_graph, read_model
from tests.fuzz.checkpoints import ODD_FIELDS, TINY
from tests.fuzz.inputs import directory, written
from tests.fuzz.mutate import mutate_bytes, mutate_json, mutate_json_text
from tests.fuzz.run import Kind
from tests.parity.seeded import write_checkpoint

CONFIG, PREPROCESSING = "detr_onnx.config", "detr_onnx.preprocessing"

XML = b'<?xml version="1.0"?>\n<net name="detr" version="11">\n<layers></layers>\n</net>\n'
ORT = b"\x18\x00\x00\x00ORTM" + bytes(64)
SUFFIX_BYTES = 8  # at the start of an input: the suffix of the file, padded


# Files


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message: an integer below 128, or bytes shorter than 16384."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value) & 0x7F | 0x80, len(value) >> 7]) + value


def onnx_file() -> bytes:
    """The outermost fields of an ONNX file."""
    entries = {b"location": b"model.onnx", b"offset": b"8"}
    data = [field(13, field(1, key) + field(2, value)) for key, value in entries.items()]
    graph = field(1, field(4, b"Identity")) + field(2, b"graph") + field(5, b"".join(data))
    metadata = field(14, field(1, CONFIG.encode()) + field(2, b"{}"))
    return field(1, 9) + field(2, b"detr-onnx") + field(7, graph) + metadata + field(8, field(2, 17))


@functools.cache
def file_seeds() -> Mapping[str, bytes]:
    contents = {".onnx": onnx_file(), ".xml": XML, ".ort": ORT}
    return {suffix: suffix.encode().ljust(SUFFIX_BYTES) + content for suffix, content in contents.items()}


def mutate_file(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[:SUFFIX_BYTES] + mutate_bytes(random, data[SUFFIX_BYTES:], [other[SUFFIX_BYTES:] for other in others])


def read_file(data: bytes) -> str:
    suffix = data[:SUFFIX_BYTES].decode().strip()
    check_graph_file(written(f"model{suffix}", data[SUFFIX_BYTES:]))
    return f"{suffix} for an engine"


# Metadata


@functools.cache
def metadata_seeds() -> Mapping[str, bytes]:
    """The metadata of a file that this package writes, as a JSON object of texts."""
    metadata = {CONFIG: json.dumps(TINY.to_fields()), PREPROCESSING: json.dumps(Preprocessing().to_json())}
    return {"metadata": json.dumps({**metadata, "detr_onnx.version": "0.1.0"}).encode()}


def mutate_metadata(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One or both of the texts are changed, or left out."""
    metadata = json.loads(data)
    for name in random.choice(((CONFIG,), (CONFIG,), (PREPROCESSING,), (CONFIG, PREPROCESSING))):
        if random.random() < 0.02:
            del metadata[name]
        elif random.random() < 0.1:
            metadata[name] = mutate_json(random, metadata[name].encode(), ODD_FIELDS).decode("utf-8", "replace")[::-1]
        else:
            text = mutate_json_text(random, metadata[name].encode(), [data], ODD_FIELDS)
            metadata[name] = text.decode("utf-8", "replace")
    return json.dumps(metadata).encode()


def read_metadata(data: bytes) -> str:
    """Reads the description of a graph, with and without class names of the caller."""
    engine = Engine("a test", lambda pixels, mask: (pixels, pixels), metadata=json.loads(data))
    graph = directory("graph") / "model.onnx"
    names, preprocessing = describe_graph(graph, engine, None, None)
    if not names or not all(isinstance(name, str) for name in names):
        raise AssertionError(f"{names!r} are not names")
    if min(preprocessing.resized_hw(480, 640)) < 1 or not np.isfinite(preprocessing.mean).all():
        raise AssertionError(f"{preprocessing} cannot be used")
    if describe_graph(graph, engine, None, ("cat",))[0] != ("cat",):
        raise AssertionError("the caller's names are not used")
    return "a description"


# Whole graphs


@functools.cache
def graph_seeds() -> Mapping[str, bytes]:
    """A tiny model as this package exports it; nothing without the package onnx."""
    if importlib.util.find_spec("onnx") is None:
        return {}
    checkpoint = write_checkpoint(directory("tiny"), TINY, 1)
    write_onnx(checkpoint / "model.onnx", *read_model(checkpoint), ExportOptions())
    return {"graph": (checkpoint / "model.onnx").read_bytes()}


def mutate_graph(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Some bytes are changed and the length stays, in most cases; else hardly any would pass the first check."""
    if random.random() < 0.1:
        return mutate_bytes(random, data, others)
    mutated = bytearray(data)
    for _ in range(random.randint(1, 8)):
        start = random.randrange(len(data)) if random.random() < 0.5 else data.index(CONFIG.encode())
        mutated[(start + random.randrange(200)) % len(data)] = random.randrange(256)
    return bytes(mutated)


def read_graph(data: bytes) -> str:
    """Loads the graph into ONNX Runtime, and reads its description."""
    graph = written("graph.onnx", data)
    engine = onnxruntime_engine(graph, threads=1)
    names, _ = describe_graph(graph, engine, None, None)
    return f"a graph of {len(names)} classes"


GRAPHS = Kind(graph_seeds, mutate_graph, read_graph, (ModelFileError,), 1)
GRAPH_FILES = Kind(file_seeds, mutate_file, read_file, (ModelFileError,), 10)
GRAPH_METADATA = Kind(metadata_seeds, mutate_metadata, read_metadata, (ModelFileError,), 10)
