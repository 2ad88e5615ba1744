"""Checks the size and the structure of a graph file before an engine loads it.

Engines are slow and noisy on files that do not match their suffix: OpenVINO tries the parser of every framework in
turn, each of which prints messages of its own, and reads gigabytes of zeros to the end. Loops may never end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from detr_onnx.checkpoint.files import is_lfs_pointer
from detr_onnx.engines.external_data import check_external_files, lfs_pointer_error
from detr_onnx.engines.loops import find_loop
from detr_onnx.engines.protobuf import LENGTH, SIZES, VARINT
from detr_onnx.errors import ModelFileError
from detr_onnx.file_kinds import START_BYTES, kind_of, known_kind
from detr_onnx.paths import is_directory, is_file
from detr_onnx.text import reason_of

ONNX_BYTES = 2**31 - 1  # protobuf's limit of one message
XML_BYTES = 64 << 20  # that of a DETR-R50 has 1 MB; the weights are in the .bin beside it
ONNX_FIELDS = 10_000  # of the outermost message; our files have about twenty
GRAPH_FIELD = 7  # of ONNX's ModelProto


def check_graph_file(path: Path) -> list[Path]:
    """The files beside a graph file that hold its weights.

    Raises:
        ModelFileError: it is not what its suffix says, or has a graph that may not end, or lacks weights.
    """
    if not is_file(path):
        exists = os.path.lexists(path)
        found = "no such file" if not exists else "a directory" if is_directory(path) else "not a regular file"
        raise ModelFileError(f"cannot read {path}", found=found, remedy="check the path")
    if path.suffix.lower() not in CHECKS:
        return []
    if is_lfs_pointer(path):
        raise lfs_pointer_error(path, "the model")
    loop, weights = None, list[Path]()
    try:
        with path.open("rb") as file:
            trouble = CHECKS[path.suffix.lower()](file, path.stat().st_size)
            if trouble:
                trouble = known_kind(_start(file)) or trouble
        if not trouble:
            loop = find_loop(path)
        if not trouble and not loop:
            weights = check_external_files(path)
    except ValueError as error:
        trouble = str(error)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}", found=reason_of(error), remedy="check the path") from error
    if trouble:
        kind = KINDS[path.suffix.lower()]
        raise ModelFileError(f"{path} is not {kind}", found=trouble, remedy="export or fetch the file again")
    if loop:
        raise ModelFileError(
            f"{path} may run without end",
            found=loop,
            expected="a DETR, which has no loops",
            remedy="export the model again without control flow",
        )
    return weights


def _onnx_trouble(file: BinaryIO, size: int) -> str | None:
    """Why a file is not an ONNX ModelProto, whose outermost fields fill it exactly; None if it looks like one."""
    if size > ONNX_BYTES:
        return f"{size} bytes, more than the 2 GiB that protobuf allows"
    has_graph = False
    for _ in range(ONNX_FIELDS):
        if file.tell() == size:
            return None if has_graph else "no graph in it"
        tag = _varint(file)
        if tag is None or tag >> 3 == 0:
            break
        has_graph = has_graph or tag == GRAPH_FIELD << 3 | LENGTH
        if not _skipped(file, tag & 7, size):
            return f"{size} bytes, which end in the middle of a field" if file.tell() > 1 else "not a protobuf message"
    return f"{kind_of(_start(file))}, not a protobuf message"


def _skipped(file: BinaryIO, wire_type: int, size: int) -> bool:
    """Skips the value of a field; False if it ends beyond the file."""
    if wire_type == VARINT:
        return _varint(file) is not None
    length = SIZES.get(wire_type) if wire_type != LENGTH else _varint(file)
    if length is None or file.tell() + length > size:
        return False
    file.seek(length, os.SEEK_CUR)
    return True


def _varint(file: BinaryIO) -> int | None:
    """Reads a variable-length integer, seven bits a byte, at most ten bytes; None if there is none."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


def _xml_trouble(file: BinaryIO, size: int) -> str | None:
    if size > XML_BYTES:
        return f"{size} bytes, more than the {XML_BYTES >> 20} MiB that a description of a graph may have"
    start = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
    return None if start.startswith((b"<?xml", b"<net")) else kind_of(_start(file))


def _ort_trouble(file: BinaryIO, size: int) -> str | None:
    return None if file.read(8)[4:] == b"ORTM" else kind_of(_start(file))


def _start(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(START_BYTES)


CHECKS: dict[str, Callable[[BinaryIO, int], str | None]] = {
    ".onnx": _onnx_trouble,
    ".xml": _xml_trouble,
    ".ort": _ort_trouble,
}
KINDS = {".onnx": "an ONNX file", ".xml": "a model of OpenVINO's", ".ort": "a file of ONNX Runtime's own format"}
