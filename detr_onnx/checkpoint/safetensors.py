"""Reading and writing safetensors files: 8 bytes (little-endian length of the header), a JSON header, one buffer.

The header maps each tensor's name to `{"dtype", "shape", "data_offsets": [begin, end]}`, offsets into the buffer. No
number in a file is trusted: each is checked against the file's real size before any tensor is read.
Source: the format's specification in the README of huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.errors import CheckpointError
from detr_onnx.file_kinds import GZIP, START_BYTES, TAR, kind_of
from detr_onnx.json_input import MAX_AXES, parse_json, whole_numbers
from detr_onnx.paths import exists, is_file
from detr_onnx.text import reason_of

HEADER_LIMIT = 4 << 20  # bytes; a DETR's header has 0.06 MB, and the reference implementation allows 100 MB
LARGEST_SHAPE = 1 << 48  # product of the axes that are not 0
NAME_LIMIT = 200  # characters; the longest name in a DETR has 87
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: read as bits, widened below
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}

Tensors = dict[str, NDArray[Any]]


def read_safetensors(path: Path) -> Tensors:
    """Every tensor of the file, in the header's order; floats of any width come out as float32.

    float32 tensors are read-only views of the mapped file: nothing is copied before it is used.

    Raises:
        CheckpointError: when the file is missing or truncated, or its header is wrong.
    """
    header, buffer = _mapped(path)
    return {name: _tensor(buffer, entry) for name, entry in header.items()}


def check_safetensors(path: Path) -> None:
    """Raises CheckpointError unless the header is right and fits the file; the tensors are not read."""
    _mapped(path)


def _mapped(path: Path) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """The checked header, and the mapped bytes behind it."""
    try:
        if exists(path) and not is_file(path):  # opening a pipe would block
            raise CheckpointError(f"{path} cannot be read", found="not a file", remedy="check the path")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < 8:
                raise _broken(path, f"{size} bytes", "at least the 8 bytes of the header's length")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        found = reason_of(error)
        raise CheckpointError(f"{path} cannot be read", found=found, remedy="check the path") from error
    header_bytes = int.from_bytes(mapped[:8], "little")
    kind, first = kind_of(mapped[:START_BYTES]), mapped[8:9]  # the format asks for a header that begins with {
    if first not in (b"{", b"") and (header_bytes > size - 8 or kind in (GZIP, TAR)):
        unpack = "unpack it, and give the directory of the model"
        raise CheckpointError(
            f"{path} is not a valid safetensors file",
            found=kind,
            expected="the weights of a DETR",
            remedy=unpack if kind in (GZIP, TAR) else "give a .safetensors or .onnx file, or the directory of a model",
        )
    if header_bytes > min(size - 8, HEADER_LIMIT):
        raise _broken(path, f"a header of {header_bytes:,} bytes in a file of {size:,}", "a header within the file")
    header = _header(path, mapped[8 : 8 + header_bytes])
    buffer = np.frombuffer(mapped, np.uint8, offset=8 + header_bytes)
    _check_header(path, header, len(buffer))
    return header, buffer


def forget_pages(tensors: Mapping[str, NDArray[Any]]) -> None:
    """Gives back the memory of the pages of a mapped file that were read; reading them again is possible."""
    files = {id(file): file for tensor in tensors.values() if isinstance(file := _owner(tensor), mmap.mmap)}
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        for file in files.values():
            file.madvise(mmap.MADV_DONTNEED)


def _owner(tensor: Any) -> Any:
    """The object that holds the memory an array is a view of."""
    while isinstance(tensor, np.ndarray | memoryview):
        tensor = tensor.base if isinstance(tensor, np.ndarray) else tensor.obj
    return tensor


def _broken(path: Path, found: str, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a valid safetensors file", found=found, expected=expected, remedy="fetch or convert it again"
    )


def _header(path: Path, text: bytes) -> dict[str, Any]:
    """The parsed header without `__metadata__`."""
    try:
        header = parse_json(text, "the header", unique_names=True)
    except CheckpointError as error:
        raise _broken(path, f"a header that cannot be parsed ({error.found})", "a JSON object") from error
    if not isinstance(header, dict):
        raise _broken(path, f"a header that is a {type(header).__name__}", "a JSON object")
    header.pop("__metadata__", None)
    return header


def _check_header(path: Path, header: dict[str, Any], buffer_bytes: int) -> None:
    """Checks that every entry is well formed and inside the buffer, and that they fill it without overlap or gap."""
    unusable = [name for name in header if not name.isprintable() or len(name) > NAME_LIMIT]
    if unusable:
        raise _broken(
            path, f"a tensor called {unusable[0][:40]!r} …", f"printable names of at most {NAME_LIMIT} characters"
        )
    problems = [f"{name}: {problem}" for name, entry in header.items() if (problem := _problem(entry, buffer_bytes))]
    if not problems:
        problems = _gaps(header, buffer_bytes)
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise _broken(path, "; ".join(problems[:5]) + more, "tensors that lie one after the other in the file")


def _gaps(header: dict[str, Any], buffer_bytes: int) -> list[str]:
    """Tensors that do not begin where the one before them ends, and bytes after the last tensor."""
    spans = sorted((*entry["data_offsets"], name) for name, entry in header.items())
    ends = [0, *(end for _, end, _ in spans)]
    problems = [
        f"{name} {'overlaps' if begin < end else f'begins {begin - end:,} bytes after the end of'} the tensor before it"
        for end, (begin, _, name) in zip(ends, spans, strict=False)
        if begin != end
    ]
    rest = buffer_bytes - ends[-1]
    return [*problems, f"{rest:,} bytes that belong to no tensor"] if rest else problems


def _problem(entry: Any, buffer_bytes: int) -> str:
    """What is wrong with one entry of the header, or nothing."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        return "no dtype, shape and data_offsets"
    if not isinstance(dtype, str) or dtype not in DTYPES:
        return f"dtype {repr(dtype)[:40]}, not one of {', '.join(DTYPES)}"
    if whole_numbers(shape) is None or whole_numbers([begin, end]) is None:
        facts = f"shape {repr(shape)[:60]} at {repr(begin)[:30]}:{repr(end)[:30]}"
        return f"{facts}, not at most {MAX_AXES} integers from 0 to 2**63 - 1"
    if not begin <= end <= buffer_bytes:
        return f"bytes {begin:,} to {end:,} of {buffer_bytes:,}"
    required = math.prod(shape) * DTYPES[dtype].itemsize
    if end - begin != required:
        return f"{end - begin:,} bytes for {dtype} {shape}, which takes {required:,}"
    # numpy cannot make an empty tensor whose other axes are this long
    return f"shape {shape}" if math.prod(n or 1 for n in shape) > LARGEST_SHAPE else ""


def _tensor(buffer: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    begin, end = entry["data_offsets"]
    tensor = buffer[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    if entry["dtype"] == "BF16":
        return widened(tensor)
    with np.errstate(over="ignore"):  # a double too large becomes an infinity, which the checkpoint's checks report
        return tensor.astype(np.float32, copy=False) if tensor.dtype.kind == "f" else tensor


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 numbers of bfloat16 ones, which are the upper halves of their bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """A .safetensors file of float32 tensors, streamed."""
    header, begin = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, begin + tensor.nbytes]}
        begin += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor, "<f4").data)
