"""The wire format of KServe's open inference protocol, version 2, with its binary tensor extension; no sockets.

Tensors stand in the JSON, or after it in one row: then the header Inference-Header-Content-Length says where JSON ends,
and each tensor's `parameters.binary_data_size` how long it is. BYTES are strings, each after its length in four bytes.

Source: https://kserve.github.io/website and Triton's protocol extensions ("extension_binary_data").
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.server.errors import BAD_INPUT, RequestError
from detr_onnx.server.protocols.byte_arrays import loads
from detr_onnx.server.protocols.fields import decode_base64

Array = NDArray[Any]

DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
MOST_NUMBERS = 500_000  # of a tensor in JSON; larger ones have the binary form


@dataclass(frozen=True)
class InferRequest:
    """A request to infer.

    Attributes:
        inputs: by name; BYTES are arrays of objects, each `bytes`.
        outputs: the names that are wanted, and whether in binary form; empty for all.
        binary: whether outputs are wanted in binary form where it is not said.
        parameters: of the request.
        id: the client's own.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, bool]
    binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


def read_request(body: bytes, header_length: int | None) -> InferRequest:
    """A request, from its body and the header Inference-Header-Content-Length.

    Raises:
        RequestError: it is none; the message says what is wrong.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise invalid("Inference-Header-Content-Length is beyond the body")
    text, rest = (body, b"") if header_length is None else (body[:header_length], body[header_length:])
    try:
        fields = loads(text, MOST_NUMBERS)
    except ValueError as error:
        raise invalid(f"the request is not JSON: {error}") from error
    if not isinstance(fields, Mapping) or not isinstance(fields.get("inputs"), list) or not fields["inputs"]:
        raise invalid("the request has no inputs")
    inputs = {}
    for entry in fields["inputs"]:
        name, array, rest = _tensor(entry, rest)
        inputs[name] = array
    if rest:
        raise invalid(f"{len(rest)} bytes after the last tensor")
    parameters = _mapping(fields, "parameters")
    outputs, identifier = fields.get("outputs") or [], fields.get("id")
    if not isinstance(outputs, list) or not all(
        isinstance(o, Mapping) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise invalid("outputs have no names")
    binary = bool(parameters.get("binary_data_output"))
    wanted = {o["name"]: bool(_mapping(o, "parameters").get("binary_data", binary)) for o in outputs}
    return InferRequest(inputs, wanted, binary, parameters, identifier if isinstance(identifier, str) else None)


def _mapping(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name) or {}
    if not isinstance(value, Mapping):
        raise invalid(f"{name} is no object")
    return value


def _tensor(entry: Any, rest: bytes) -> tuple[str, Array, bytes]:
    """Name and values of an input, and the binary data that is left for the inputs after it."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise invalid("an input has no name")
    name, datatype, shape = entry["name"], entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str) or datatype not in ("BYTES", *DTYPES):
        raise invalid(f"input {name}: no datatype {datatype!r}")
    if not isinstance(shape, list | bytes) or not all(type(n) is int and 0 <= n < 1 << 31 for n in shape):
        raise invalid(f"input {name}: the shape is no list of sizes")
    size = _mapping(entry, "parameters").get("binary_data_size")
    if size is None:
        values = _from_json(name, datatype, entry.get("data"))
    elif type(size) is int and 0 <= size <= len(rest):
        values, rest = _from_binary(name, datatype, rest[:size]), rest[size:]
    else:
        raise invalid(f"input {name}: binary_data_size is {size!r}, and {len(rest)} bytes are there")
    count = 1
    for length in shape:
        count *= length
    if values.size != count:
        raise invalid(f"input {name}: {values.size} values, expected {count} for the shape {list(shape)}")
    return name, values.reshape(list(shape)), rest


def _from_binary(name: str, datatype: str, data: bytes) -> Array:
    if datatype != "BYTES":
        try:
            return np.frombuffer(data, DTYPES[datatype])
        except ValueError as error:
            raise invalid(f"input {name}: {len(data)} bytes are no whole number of {datatype}") from error
    items, start = [], 0
    while start < len(data):
        length = int.from_bytes(data[start : start + 4], "little")
        start += 4
        if start + length > len(data):
            raise invalid(f"input {name}: BYTES are cut short")
        items.append(data[start : start + length])
        start += length
    return _objects(items)


def _from_json(name: str, datatype: str, data: Any) -> Array:
    if isinstance(data, bytes) and datatype != "BYTES":
        return np.frombuffer(data, np.uint8).astype(DTYPES[datatype])
    if not isinstance(data, list):
        raise invalid(f"input {name}: data is no list")
    try:
        if datatype == "BYTES":
            return _objects([_image_text(item) for item in data])
        kinds = np.asarray(data)
        if kinds.dtype.kind not in "biuf":
            raise ValueError("not numbers")
        return kinds.astype(DTYPES[datatype]).reshape(-1)
    except (ValueError, TypeError, OverflowError) as error:
        raise invalid(f"input {name}: data does not fit {datatype}: {error}") from error


def _image_text(item: Any) -> bytes:
    """The bytes of a string, which in JSON can only be base64, or of `{"b64": …}`."""
    text = item.get("b64") if isinstance(item, Mapping) else item
    if not isinstance(text, str):
        raise ValueError("not a string")
    return decode_base64(text)


def _objects(items: Sequence[bytes]) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def write_response(request: InferRequest, model: str, outputs: Mapping[str, Array]) -> tuple[bytes, int | None]:
    """The body of an answer and, with binary tensors in it, the length of its JSON.

    Raises:
        RequestError: an output that is wanted is not among `outputs`.
    """
    if unknown := [name for name in request.outputs if name not in outputs]:
        raise invalid(f"no output {', '.join(unknown)}: there are {', '.join(outputs)}")
    wanted = request.outputs or dict.fromkeys(outputs, request.binary)
    entries, tail = [], b""
    for name, binary in wanted.items():
        entry, data = _written(name, outputs[name], binary)
        entries.append(entry)
        tail += data
    answer: dict[str, Any] = {"model_name": model, "model_version": "1", "outputs": entries}
    if request.id is not None:
        answer["id"] = request.id
    text = json.dumps(answer, separators=(",", ":")).encode()
    return text + tail, len(text) if any(wanted.values()) else None


def _written(name: str, array: Array, binary: bool) -> tuple[dict[str, Any], bytes]:
    datatype = next((known for known, code in DTYPES.items() if array.dtype == np.dtype(code)), "BYTES")
    entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    if not binary:
        values = array.reshape(-1).tolist()
        return {**entry, "data": [v.decode() for v in values] if datatype == "BYTES" else values}, b""
    if datatype == "BYTES":
        data = b"".join(struct.pack("<I", len(item)) + item for item in array.reshape(-1))
    else:
        data = array.tobytes()
    return {**entry, "parameters": {"binary_data_size": len(data)}}, data


def invalid(complaint: str) -> RequestError:
    """The refusal of an invalid request."""
    return RequestError(BAD_INPUT, complaint)
