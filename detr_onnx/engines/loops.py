"""Finds loops in a graph file without an engine: a loop of 2**62 rounds never ends, and nothing can interrupt it.

Engines compute constant parts of a graph as soon as they load it, so the check comes before. A DETR has no loops;
files with loops are refused, and so are functions that call each other until the graph has a million nodes. Panoptic
models, which have an output `mask_queries`, may loop over their masks; they are limited only by `deadline.py`. Each
reader visits the nodes, skips the weights, and reads a bounded number of fields.
"""

from __future__ import annotations

import graphlib
import mmap
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from detr_onnx.engines.protobuf import MOST_FIELDS, Messages, Span, TooManyFieldsError

BRANCH = "If"  # the only operator with graphs inside that runs each of them at most once
LOOPS = {
    *("Loop", "Scan", "SequenceMap", "TensorIterator"),
    *("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),  # of ONNX Runtime
}
PLAIN_LOOPS, MASK_QUERIES = ("Loop", "TensorIterator"), b"mask_queries"
MOST_NODES = 100_000  # after each call of a function is replaced by its nodes
MOST_DEPTH = 20  # of branches in branches

# Field numbers of ONNX's messages. Source: onnx.proto.
GRAPH, FUNCTIONS = 7, 25  # of ModelProto
NODE = 1  # of GraphProto
OP_TYPE, ATTRIBUTE, DOMAIN = 4, 5, 7  # of NodeProto
SUBGRAPHS = (6, 11)  # of AttributeProto
FUNCTION_NAME, FUNCTION_NODE, FUNCTION_DOMAIN = 1, 7, 10  # of FunctionProto

# Field numbers of ONNX Runtime's tables. Source: ort.fbs.
SESSION_MODEL, MODEL_GRAPH, GRAPH_NODES, NODE_OP_TYPE, NODE_ATTRIBUTES, ATTRIBUTE_GRAPH = 1, 7, 2, 5, 10, 7

OpType = tuple[bytes, bytes]
"""Domain and name."""


class LoopError(Exception):
    """What makes a graph's running time unbounded."""

    is_plain = False  # it is an ordinary loop, as panoptic models have one


def find_loop(path: Path) -> str | None:
    """What keeps the graph in a file from ending, such as "the operator Loop"; None if it has to end.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    finder = FINDERS.get(path.suffix.lower())
    if finder is None:
        return None
    try:
        with path.open("rb") as file:
            finder(file)
    except LoopError as loop:
        return None if loop.is_plain and _has_mask_head(path) else str(loop)
    except TooManyFieldsError as error:
        return str(error)
    return None


def _has_mask_head(path: Path) -> bool:
    """Whether the file names the output that belongs to the loop over the masks of a panoptic model."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(MASK_QUERIES) >= 0


def _check_operator(name: bytes, has_subgraph: bool) -> None:
    text = name[:40].decode("ascii", "replace")
    if text in LOOPS or (has_subgraph and text != BRANCH):
        error = LoopError(f"the operator {text}")
        error.is_plain = text in PLAIN_LOOPS
        raise error


# ONNX


@dataclass
class _Onnx:
    """The nodes of a ModelProto.

    Attributes:
        messages: the file.
        calls: how often each operator occurs, in the graph (under no name) and in each function.
    """

    messages: Messages
    calls: dict[OpType | None, Counter[OpType]] = field(default_factory=dict)

    def check(self) -> None:
        messages = self.messages
        for number, span in messages.within(messages.whole()):
            if number == GRAPH:
                self._nodes(span, NODE, self.calls.setdefault(None, Counter()), 0)
            elif number == FUNCTIONS:
                name = domain = b""
                for part, value in messages.within(span):
                    name = messages.bytes_of(value) if part == FUNCTION_NAME else name
                    domain = messages.bytes_of(value) if part == FUNCTION_DOMAIN else domain
                self._nodes(span, FUNCTION_NODE, self.calls.setdefault((domain, name), Counter()), 0)
        self._check_calls()

    def _nodes(self, graph: Span, number: int, calls: Counter[OpType], depth: int) -> None:
        """Counts the nodes of a graph or a function, and of the branches in it."""
        if depth > MOST_DEPTH:
            raise LoopError(f"more than {MOST_DEPTH} branches in branches")
        for part, node in self.messages.within(graph):
            if part == number:
                self._node(node, calls, depth)

    def _node(self, node: Span, calls: Counter[OpType], depth: int) -> None:
        op_type, domain, subgraphs = b"", b"", list[Span]()
        for part, value in self.messages.within(node):
            if part == OP_TYPE:
                op_type = self.messages.bytes_of(value)
            elif part == DOMAIN:
                domain = self.messages.bytes_of(value)
            elif part == ATTRIBUTE:
                subgraphs += [graph for name, graph in self.messages.within(value) if name in SUBGRAPHS]
        _check_operator(op_type, bool(subgraphs))
        calls[domain, op_type] += 1
        for subgraph in subgraphs:
            self._nodes(subgraph, NODE, calls, depth + 1)

    def _check_calls(self) -> None:
        """Raises LoopError if the graph, with the nodes of functions in place of their calls, is endless or huge."""
        functions = {name: [called for called in calls if called in self.calls] for name, calls in self.calls.items()}
        try:
            order = list(graphlib.TopologicalSorter(functions).static_order())
        except graphlib.CycleError:
            raise LoopError("functions that call themselves") from None
        nodes: dict[OpType | None, int] = {}
        for name in order:
            nodes[name] = sum(count * nodes.get(called, 1) for called, count in self.calls[name].items())
        if nodes.get(None, 0) > MOST_NODES:
            raise LoopError(f"more than {MOST_NODES} nodes")


def _check_onnx(file: BinaryIO) -> None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _Onnx(Messages(data, MOST_FIELDS)).check()


# ONNX Runtime's own format, a FlatBuffer


@dataclass
class _Ort:
    """The nodes of an InferenceSession. A table begins with the distance to the list of its fields' places."""

    data: mmap.mmap
    nodes: int = 0

    def check(self) -> None:
        (root,) = struct.unpack_from("<I", self.data)
        model = self._reference(root, SESSION_MODEL)
        graph = model and self._reference(model, MODEL_GRAPH)
        if graph:
            self._graph(graph, 0)

    def _graph(self, graph: int, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise LoopError(f"more than {MOST_DEPTH} branches in branches")
        for node in self._tables(graph, GRAPH_NODES):
            attributes = self._tables(node, NODE_ATTRIBUTES)
            subgraphs = [graph for table in attributes if (graph := self._reference(table, ATTRIBUTE_GRAPH))]
            _check_operator(self._text(node, NODE_OP_TYPE), bool(subgraphs))
            for subgraph in subgraphs:
                self._graph(subgraph, depth + 1)

    def _reference(self, table: int, number: int) -> int:
        """Where the value of a field is; 0 if it is not set."""
        (distance,) = struct.unpack_from("<i", self.data, table)
        places = table - distance
        (size,) = struct.unpack_from("<H", self.data, places)
        if 4 + 2 * number >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, places + 4 + 2 * number)
        return self._follow(table + offset) if offset else 0

    def _follow(self, position: int) -> int:
        (distance,) = struct.unpack_from("<I", self.data, position)
        return position + int(distance)

    def _tables(self, table: int, number: int) -> Iterator[int]:
        """The tables of a vector."""
        vector = self._reference(table, number)
        (count,) = struct.unpack_from("<I", self.data, vector) if vector else (0,)
        self.nodes += count
        if self.nodes > MOST_FIELDS:
            raise TooManyFieldsError(f"more than {MOST_FIELDS} parts")
        return (self._follow(vector + 4 + 4 * i) for i in range(count))

    def _text(self, table: int, number: int) -> bytes:
        text = self._reference(table, number)
        (length,) = struct.unpack_from("<I", self.data, text) if text else (0,)
        return self.data[text + 4 : text + 4 + length]


def _check_ort(file: BinaryIO) -> None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            _Ort(data).check()
        except struct.error:
            raise ValueError("a damaged table") from None


# OpenVINO's format


SUSPECT = (*(name.encode() for name in LOOPS), b"&#", b"<!", b"\0")
"""What a description with a loop contains one of: its name, a character by its number, or UTF-16's zeros."""


def _check_xml(file: BinaryIO) -> None:
    text = file.read()
    if not any(part in text for part in SUSPECT):
        return  # which is faster than parsing it

    from xml.parsers import expat

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "layer":
            _check_operator(attributes.get("type", "").encode(), has_subgraph=False)

    def refuse(*_: object) -> None:
        raise ValueError("a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = start, refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(f"malformed XML: {error}") from None


FINDERS: dict[str, Callable[[BinaryIO], None]] = {".onnx": _check_onnx, ".ort": _check_ort, ".xml": _check_xml}
