"""The wire format of KServe's open inference protocol, version 2, with the binary tensor extension; no sockets.

Tensors stand in the JSON, or one after another behind it: then the header Inference-Header-Content-Length holds the
length of the JSON, and each tensor's `parameters.binary_data_size` its own. BYTES are strings, each after its length in
four bytes.

Source: `inference_rest.md` of the Open Inference Protocol, and Triton's "Binary Tensor Data Extension". Where they let
the server coerce values or refuse them, this module refuses: 300 is not a UINT8, and neither is true.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detr_onnx.json_input import MAX_AXES, whole_numbers
from detr_onnx.server.protocols.byte_arrays import loads
from detr_onnx.server.protocols.fields import parse_json
from detr_onnx.server.protocols.tensors import DTYPES, Array, from_binary, from_json, invalid

VERSION = "1"  # of the model; there is one only
LARGEST_AXIS, LARGEST_SHAPE = 2**31 - 1, 1 << 48  # numpy makes no array, even an empty one, of larger axes
MOST_NUMBERS = 500_000  # of all tensors in JSON; larger tensors need the binary form
UNSUPPORTED = ("classification", "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
"""Parameters of extensions that change what a tensor means, so that they cannot be ignored."""


@dataclass(frozen=True)
class InferRequest:
    """An inference request.

    Attributes:
        inputs: arrays by name; BYTES are arrays of objects, each `bytes`.
        outputs: the requested names, and whether each is wanted in binary form; empty for all outputs.
        binary: whether outputs are wanted in binary form where the request names none.
        parameters: of the request.
        id: the client's own.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, bool]
    binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


# Requests


def read_request(body: bytes, header_length: int | None) -> InferRequest:
    """A request, from its body and the header Inference-Header-Content-Length.

    Raises:
        RequestError: BAD_INPUT, the request is not valid.
    """
    if header_length is not None and header_length > len(body):
        raise invalid("Inference-Header-Content-Length is greater than the length of the body")
    text, binary_data = (body, b"") if header_length is None else (body[:header_length], body[header_length:])
    try:
        fields = loads(text, MOST_NUMBERS)
    except ValueError as error:
        raise invalid(f"the request is not JSON: {error}") from error
    if not isinstance(fields, Mapping):
        raise invalid("the request is not a JSON object")
    identifier = fields.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise invalid("id is not a string")
    parameters = _parameters(fields, "the request")
    binary = _flag(parameters, "binary_data_output", False, "the request")
    return InferRequest(_inputs(fields, binary_data), _outputs(fields, binary), binary, parameters, identifier)


def read_index_request(body: bytes) -> bool:
    """Whether a request for the repository's index asks for ready models only; its body may be empty.

    Raises:
        RequestError: BAD_INPUT, the request is not valid.
    """
    fields = parse_json(body) if body else {}
    if not isinstance(fields, Mapping):
        raise invalid("the request is not a JSON object")
    return _flag(fields, "ready", False, "the request")


def _inputs(fields: Mapping[str, Any], binary_data: bytes) -> dict[str, Array]:
    entries = fields.get("inputs")
    if not isinstance(entries, list) or not entries:
        raise invalid("the request has no inputs")
    arrays: dict[str, Array] = {}
    for entry in entries:
        name = _name(entry, "an input")
        if name in arrays:
            raise invalid(f"input {name} is given twice")
        arrays[name], binary_data = _tensor(entry, f"input {name}", binary_data)
    if binary_data:
        raise invalid(f"the binary data has {len(binary_data)} bytes more than the inputs declare")
    return arrays


def _outputs(fields: Mapping[str, Any], binary: bool) -> dict[str, bool]:
    entries = fields.get("outputs")
    if entries is None:
        return {}
    if not isinstance(entries, list):
        raise invalid("outputs is not a list")
    outputs: dict[str, bool] = {}
    for entry in entries:
        name = _name(entry, "an output")
        if name in outputs:
            raise invalid(f"output {name} is requested twice")
        outputs[name] = _flag(_parameters(entry, f"output {name}"), "binary_data", binary, f"output {name}")
    return outputs


def _name(entry: Any, what: str) -> str:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise invalid(f"{what} has no name")
    return str(entry["name"])


def _parameters(fields: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    parameters = fields.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise invalid(f"parameters of {what} are not an object")
    for name, value in parameters.items():
        if not isinstance(value, str | int | float):
            raise invalid(f"parameter {name} of {what} is not a string, number or boolean")
        if name in UNSUPPORTED:
            raise invalid(f"parameter {name} of {what} is not supported")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, default: bool, what: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise invalid(f"parameter {name} of {what} is not a boolean")
    return value


def _tensor(entry: Mapping[str, Any], what: str, binary_data: bytes) -> tuple[Array, bytes]:
    """The array of an input, and the binary data that is left for the inputs after it."""
    datatype, shape = entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str) or datatype not in ("BYTES", *DTYPES):
        raise invalid(f"{what}: unknown datatype {datatype!r}")
    shape = whole_numbers(list(shape) if isinstance(shape, bytes) else shape, largest=LARGEST_AXIS)
    if shape is None or math.prod(n or 1 for n in shape) > LARGEST_SHAPE:
        raise invalid(f"{what}: the shape is not a list of at most {MAX_AXES} sizes")
    size = _parameters(entry, what).get("binary_data_size")
    if size is None:
        values = from_json(entry.get("data"), datatype, shape, what)
    elif "data" in entry:
        raise invalid(f"{what} has both data and binary_data_size")
    elif type(size) is int and 0 <= size <= len(binary_data):
        values, binary_data = from_binary(binary_data[:size], datatype, what), binary_data[size:]
    else:
        raise invalid(f"{what}: binary_data_size is {size!r}, and {len(binary_data)} bytes are left")
    count = math.prod(shape)
    if values.size != count:
        raise invalid(f"{what}: {values.size} values, expected {count} for the shape {list(shape)}")
    return values.reshape(shape), binary_data


# Responses


def write_response(request: InferRequest, model: str, outputs: Mapping[str, Array]) -> tuple[bytes, int | None]:
    """The body of a response and, if it has binary tensors, the length of its JSON.

    Raises:
        RequestError: BAD_INPUT, a requested output is not among `outputs`.
    """
    if unknown := [name for name in request.outputs if name not in outputs]:
        raise invalid(f"unknown output {', '.join(unknown)}; the outputs are {', '.join(outputs)}")
    forms = request.outputs or dict.fromkeys(outputs, request.binary)
    entries, binary_data = [], b""
    for name, binary in forms.items():
        entry, data = _written(name, outputs[name], binary)
        entries.append(entry)
        binary_data += data
    response: dict[str, Any] = {"model_name": model, "model_version": VERSION, "outputs": entries}
    if request.id is not None:
        response["id"] = request.id
    text = json.dumps(response, separators=(",", ":"), allow_nan=False).encode()
    return text + binary_data, len(text) if any(forms.values()) else None


def _written(name: str, array: Array, binary: bool) -> tuple[dict[str, Any], bytes]:
    """The JSON of an output, and its binary data."""
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
