"""Values of KServe's tensors, from JSON or binary data, and nothing that their datatype cannot hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.server.errors import BAD_INPUT, RequestError
from detr_onnx.server.protocols.fields import decode_base64

Array = NDArray[Any]

DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def invalid(complaint: str) -> RequestError:
    """The refusal of an invalid request."""
    return RequestError(BAD_INPUT, complaint)


def from_binary(data: bytes, datatype: str, what: str) -> Array:
    """The values [n] of a tensor in binary form; `what` names it in errors.

    Raises:
        RequestError: BAD_INPUT, the data does not fit the datatype.
    """
    if datatype == "BYTES":
        return _objects(_strings(data, what))
    if len(data) % np.dtype(DTYPES[datatype]).itemsize:
        raise invalid(f"{what}: {len(data)} bytes are not a whole number of {datatype}")
    if datatype == "BOOL" and data.strip(b"\0\1"):
        raise invalid(f"{what}: a BOOL is neither 0 nor 1")
    return np.frombuffer(data, DTYPES[datatype])


def _strings(data: bytes, what: str) -> list[bytes]:
    items, start = [], 0
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if start + 4 > len(data) or end > len(data):
            raise invalid(f"{what}: BYTES are cut short")
        items.append(data[start + 4 : end])
        start = end
    return items


def from_json(data: Any, datatype: str, shape: tuple[int, ...], what: str) -> Array:
    """The values [n] of a tensor in JSON, nested as its shape or flat; a list of bytes may be `bytes`.

    Raises:
        RequestError: BAD_INPUT or BAD_BASE64, the data does not fit the datatype or the shape.
    """
    if isinstance(data, bytes) and datatype != "BYTES":
        return _in_range(np.frombuffer(data, np.uint8), datatype, what)
    if not isinstance(data, list):
        raise invalid(f"{what}: data is not a list of {datatype}")
    try:
        cells = np.array(_nested(data), dtype=object)
    except (ValueError, RecursionError) as error:  # rows of different lengths
        raise invalid(f"{what}: data does not have the shape {list(shape)}") from error
    if cells.ndim != 1 and cells.shape != shape:
        raise invalid(f"{what}: data has the shape {list(cells.shape)}, expected {list(shape)} or a flat list")
    values = cells.reshape(-1).tolist()
    if datatype == "BYTES":
        return _objects([_encoded_image(value, what) for value in values])
    return _numbers(values, datatype, what)


def _nested(data: list[Any]) -> list[Any]:
    """The same, with rows that were read as `bytes` as lists of numbers."""
    return [list(row) if isinstance(row, bytes) else _nested(row) if isinstance(row, list) else row for row in data]


def _numbers(values: list[Any], datatype: str, what: str) -> Array:
    kinds = set(map(type, values))
    if datatype == "BOOL" and kinds <= {bool}:
        return np.array(values, np.bool_)
    if not kinds <= {int, float}:
        raise invalid(f"{what}: data holds a value that is not {datatype}")
    if datatype.startswith("FP"):
        return _in_range(np.array([_float(value) for value in values]), datatype, what)
    if float in kinds and not all(float(value).is_integer() for value in values):
        raise invalid(f"{what}: data holds a value that is not {datatype}")
    return _in_range(np.array([int(value) for value in values], object), datatype, what)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def _in_range(values: Array, datatype: str, what: str) -> Array:
    """The values in their datatype, if it can hold them."""
    dtype = np.dtype(DTYPES[datatype])
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype) if dtype.kind != "b" else None
    low, high = (limits.min, limits.max) if limits is not None else (0, 1)
    if values.size and not (low <= values.min() and values.max() <= high):
        raise invalid(f"{what}: data holds a value that is not {datatype}")
    return values.astype(dtype)


def _encoded_image(value: Any, what: str) -> bytes:
    """The bytes of a string, which in JSON can only be base64, or of `{"b64": …}`."""
    text = value.get("b64") if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        raise invalid(f"{what}: data holds a value that is not BYTES in base64")
    return decode_base64(text)


def _objects(items: Sequence[bytes]) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array
