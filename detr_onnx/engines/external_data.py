"""The files beside a graph file that hold its weights.

An .onnx file may keep tensors in other files of its directory, "external data", which it names. An OpenVINO .xml file
has a .bin file.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from detr_onnx.checkpoint.files import is_lfs_pointer
from detr_onnx.engines.protobuf import Messages, Span
from detr_onnx.errors import ModelFileError
from detr_onnx.paths import is_file

# Field numbers of ONNX's messages. Source: onnx.proto.
GRAPH, INITIALIZER = 7, 5  # of ModelProto, of GraphProto
EXTERNAL_DATA = 13  # of TensorProto
KEY, VALUE = 1, 2  # of StringStringEntryProto
MOST_DIGITS = 20  # of an offset or length


def external_files(graph: Path) -> list[Path]:
    """The files beside a graph file that hold its weights; they may be missing.

    Raises:
        OSError: the graph file cannot be read.
        ValueError: it is damaged.
        ModelFileError: it names a file outside its directory.
    """
    return [*_bytes_needed(graph)]


def check_external_files(graph: Path) -> list[Path]:
    """As `external_files`; also raises ModelFileError if a file is missing, or shorter than the graph says."""
    files = _bytes_needed(graph)
    for file, needed in files.items():
        if is_lfs_pointer(file):
            raise lfs_pointer_error(file, "its weights")
        if not is_file(file):
            raise ModelFileError(
                f"{graph} has its weights in another file",
                found=f"no file {file}",
                remedy=f"copy {file.name} from where the graph comes from; the two belong together",
            )
        if file.stat().st_size < needed:
            raise ModelFileError(
                f"{file} is too short for the weights of {graph}",
                found=f"{file.stat().st_size} bytes",
                expected=f"{needed} or more",
                remedy="export or fetch both files again",
            )
    return [*files]


def lfs_pointer_error(file: Path, content: str) -> ModelFileError:
    """The error for what git leaves in place of a file that git-lfs did not fetch; `content`: what it should hold."""
    return ModelFileError(
        f"{file} is a git-lfs pointer, not {content}",
        found=f"{file.stat().st_size} bytes of text",
        remedy="run git lfs pull in its directory",
    )


def _bytes_needed(graph: Path) -> dict[Path, int]:
    """The files of weights, and the smallest size in bytes that each may have."""
    if graph.suffix.lower() == ".xml":
        weights = graph.with_suffix(".bin")
        return {weights: 0} if is_file(weights) else {}  # OpenVINO says well if it needs one
    needed: dict[Path, int] = {}
    if graph.suffix.lower() == ".onnx":
        with graph.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for location, end in _external_data(Messages(data)):
                if Path(location).is_absolute() or ".." in Path(location).parts:
                    raise ModelFileError(
                        f"{graph} has weights outside its directory",
                        found=repr(location[:200]),
                        expected="the name of a file beside it",
                        remedy="export it again",
                    )
                file = graph.parent / location
                needed[file] = max(needed.get(file, 0), end)
    return needed


def _external_data(messages: Messages) -> Iterator[tuple[str, int]]:
    """The file of each tensor that is in another file, and where in it the tensor ends."""
    for number, graph in messages.within(messages.whole()):
        for part, tensor in messages.within(graph) if number == GRAPH else ():
            entries = dict(_entries(messages, tensor)) if part == INITIALIZER else {}
            if b"location" in entries:
                end = _whole(entries.get(b"offset", b"0")) + _whole(entries.get(b"length", b"0"))
                yield os.fsdecode(entries[b"location"]), end


def _whole(text: bytes) -> int:
    if not text.isdigit() or len(text) > MOST_DIGITS:
        raise ValueError("a damaged message")
    return int(text)


def _entries(messages: Messages, tensor: Span) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the external data of a tensor."""
    for number, entry in messages.within(tensor):
        if number == EXTERNAL_DATA:
            fields = {name: messages.bytes_of(value) for name, value in messages.within(entry)}
            yield fields.get(KEY, b""), fields.get(VALUE, b"")
