"""Weights in a file beside the graph: where in it each lies, its bytes, and what stands in the graph instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from detr_onnx.network.onnx_ops import Graph

Array = NDArray[Any]

EXTERNAL_FROM_BYTES = 1024  # smaller constants stay in the graph, where shape inference sees them
EXTERNAL_ALIGNMENT = 4096  # a page, so that a runtime can map the file instead of reading it


def layout(graph: Graph) -> Iterator[tuple[str, Array, int]]:
    """Name, array and offset in the data file of every constant that goes there."""
    offset = 0
    for name, array in graph.constants.items():
        if array.nbytes >= EXTERNAL_FROM_BYTES:
            yield name, array, offset
            offset += -(-array.nbytes // EXTERNAL_ALIGNMENT) * EXTERNAL_ALIGNMENT


def write_data(path: Path, graph: Graph) -> None:
    """The constants' bytes, each where `layout` says."""
    with path.open("wb") as file:
        for _, array, offset in layout(graph):
            file.seek(offset)
            file.write(array.data)


def pointer(onnx: Any, name: str, array: Array, location: str, offset: int) -> Any:
    """The `onnx.TensorProto` of a constant whose bytes lie in another file."""
    tensor = onnx.TensorProto(name=name, dims=array.shape)
    tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
