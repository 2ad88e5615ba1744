"""Weights in a file beside the graph: their bytes, where each is in the file, and how the graph points to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from detr_onnx.engines.external_data import external_files
from detr_onnx.engines.graph_engine import OWN_VERSION
from detr_onnx.network.graph import Array, Graph, Symbol

EXTERNAL_FROM_BYTES = 1024  # smaller constants stay in the graph, where shape inference sees them
EXTERNAL_ALIGNMENT = 4096  # bytes of a page, so that a runtime can map the file instead of reading it
LARGEST_GRAPH_BYTES = 64 << 20  # of a graph whose weights are in another file; that of a DETR-R50 has 0.3 MB


def data_path(graph_file: Path) -> Path:
    """Where the weights beside a graph file go."""
    return graph_file.with_name(f"{graph_file.name}.data")


def layout(graph: Graph) -> Iterator[tuple[Symbol, Array, int]]:
    """The constants in the data file: symbol, values and offset in bytes."""
    offset = 0
    for symbol, constant in graph.constants.items():
        if constant.array.nbytes >= EXTERNAL_FROM_BYTES:
            yield symbol, constant.array, offset
            offset += -(-constant.array.nbytes // EXTERNAL_ALIGNMENT) * EXTERNAL_ALIGNMENT


def write_data(file: BinaryIO, graph: Graph) -> None:
    """Writes the data file."""
    for _, array, offset in layout(graph):
        file.seek(offset)
        file.write(array.data)


def pointer(onnx: Any, name: str, array: Array, location: str, offset: int) -> Any:
    """The `onnx.TensorProto` of a constant whose bytes are in another file."""
    tensor = onnx.TensorProto(name=name, dims=array.shape)
    tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def own_data_file(onnx: Any, graph_file: Path) -> Path | None:
    """The data file that belongs to a graph file of ours; None if there is none, or if somebody else wrote them."""
    data_file = data_path(graph_file)
    try:
        if not data_file.is_file() or graph_file.stat().st_size > LARGEST_GRAPH_BYTES:
            return None
        if data_file not in external_files(graph_file):
            return None
        model = onnx.load(graph_file, load_external_data=False)
    except Exception:  # noqa: BLE001 - not a graph, so not ours
        return None
    return data_file if any(entry.key == OWN_VERSION for entry in model.metadata_props) else None
