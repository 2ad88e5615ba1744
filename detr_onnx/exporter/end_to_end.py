"""The graph that needs no program around it: an image's bytes in, scores, labels and boxes in pixels out.

    image [H,W,3] uint8 ── size ── resized ── normalized ── detr ── detections ──► scores, labels, boxes

Only ONNX says these things, so they are written down here and not in the vocabulary; the network between is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.image.preprocess import Preprocessing
from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import detr
from detr_onnx.network.onnx_ops import (
    BOOL,
    DOUBLE,
    INT32,
    INT64,
    SINGLE,
    UINT8,
    Attribute,
    Graph,
    OnnxOps,
    Symbol,
    Value,
)
from detr_onnx.network.quantized import ConvQuantParams

IMAGE, THRESHOLD = "image", "threshold"
OUTPUTS = ("scores", "labels", "boxes")
FRACTION_BITS = 22  # of Pillow's weights: sums of 8-bit levels times weights fit 32 bits

TO_CORNERS = np.array(
    [[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32
)  # (x, y, w, h) · this = (x - w/2, y - h/2, x + w/2, y + h/2)


@dataclass(frozen=True)
class Tape:
    """Records nodes at one place of a graph."""

    graph: Graph
    place: str

    def node(
        self,
        op_type: str,
        *inputs: Value,
        attributes: Mapping[str, Attribute] | None = None,
        dtype: np.dtype[Any] | None = None,
        unread: int = 0,
    ) -> Symbol:
        """See `Graph.node`."""
        return self.graph.node(op_type, (self.place,), inputs, attributes or {}, dtype=dtype, unread=unread)

    def cast(self, x: Symbol, dtype: np.dtype[Any]) -> Symbol:
        """The value in another type."""
        return self.graph.cast(x, (self.place,), dtype)

    def single(self, x: Value) -> Symbol:
        """The value in float32."""
        if not isinstance(x, Symbol):
            return self.graph.constant(f"{self.place}_constant", x)
        return x if x.dtype == SINGLE else self.cast(x, SINGLE)


def record_end_to_end(
    config: DetrConfig,
    parameters: Mapping[str, NDArray[Any]],
    preprocessing: Preprocessing,
    precision: str,
    quant_params: Mapping[str, ConvQuantParams],
    fp16_feed_forward: bool,
    fused_attention: bool,
) -> Graph:
    """The whole graph: inputs `image` [H,W,3] uint8 and `threshold` [1], outputs `OUTPUTS`, best score first.

    Args:
        config: the model's numbers.
        parameters: what `resnet.fold_batch_norm` gives.
        preprocessing: sizes and statistics.
        precision: of the network, one of `defaults.EXPORT_PRECISIONS`; all the rest is float32.
        grids, fp16_feed_forward: of int8, as `OnnxOps` has them.
        fused_attention: attention as one node, an operator of ONNX Runtime's own.
    """
    graph, image = Graph(), Symbol(IMAGE, UINT8)
    sizing, pixels, answer = (Tape(graph, place) for place in ("size", "pixels", "answer"))
    hw = sizing.node("Shape", image, attributes={"start": 0, "end": 2}, dtype=INT64)
    if preprocessing.resize:
        image = resized(pixels, image, size(sizing, hw, preprocessing))
    ops = OnnxOps(parameters, graph, None, None, fused_attention, precision, quant_params, fp16_feed_forward)
    logits, boxes_cxcywh = (
        answer.single(v) for v in detr(ops, config, normalized(pixels, batch_of(pixels, image), preprocessing), None)
    )
    for name, value in zip(OUTPUTS, detections(answer, logits, boxes_cxcywh, hw), strict=True):
        graph.add_output(value, name)
    return graph


def size(tape: Tape, hw: Symbol, preprocessing: Preprocessing) -> Value:
    """[2] height and width that an image of `hw` is scaled to: `image.resized_hw`, in float64 as Python has it."""
    if preprocessing.fixed_hw is not None:
        return np.array(preprocessing.fixed_hw, np.int64)
    shortest, longest = (
        np.array([edge], np.float64) for edge in (preprocessing.shortest_edge, preprocessing.longest_edge)
    )
    sides = tape.cast(hw, DOUBLE)
    short, long = (tape.node(f"Reduce{which}", sides) for which in ("Min", "Max"))  # [1]
    too_long = tape.node("Greater", tape.node("Mul", tape.node("Div", long, short), shortest), longest, dtype=BOOL)
    limited = tape.node("Div", tape.node("Mul", short, longest), long)
    short_exact = tape.node("Where", too_long, limited, shortest, dtype=DOUBLE)
    short_px = tape.node("Round", short_exact)  # halves to even, as Python
    long_px = tape.node("Floor", tape.node("Div", tape.node("Mul", short_exact, long), short))
    one = np.ones(1, np.int64)
    scaled = [tape.node("Max", tape.cast(px, INT64), one) for px in (short_px, long_px)]
    is_short = tape.node("Equal", sides, short, dtype=BOOL)  # [2]
    has_its_size = tape.node("Equal", short, short_px, dtype=BOOL)  # [1]
    return tape.node("Where", has_its_size, hw, tape.node("Where", is_short, *scaled, dtype=INT64), dtype=INT64)


def batch_of(tape: Tape, image: Symbol) -> Symbol:
    """[H,W,3] -> [1,3,H,W]."""
    channels_first = tape.node("Transpose", image, attributes={"perm": (2, 0, 1)})
    return tape.node("Unsqueeze", channels_first, np.array([0], np.int64))


def resized(tape: Tape, image: Symbol, hw: Value) -> Symbol:
    """[H,W,3] uint8 -> [h,w,3] uint8: Pillow's antialiased bilinear, bit for bit, one axis after the other.

    Pillow takes the axes of images more than twice as high as wide in the other order; there it may be one level off.
    """
    ends = (np.array([n], np.int64) for n in (0, 1, 2))
    zero, one, two = ends
    height, width = tape.node("Slice", hw, zero, one), tape.node("Slice", hw, one, two)
    columns = tape.node("Transpose", image, attributes={"perm": (1, 2, 0)})  # [W,3,H]
    rows = tape.node("Transpose", scaled(tape, columns, width), attributes={"perm": (2, 1, 0)})  # [w,3,H] -> [H,3,w]
    return tape.node("Transpose", scaled(tape, rows, height), attributes={"perm": (0, 2, 1)})  # [h,3,w] -> [h,w,3]


def scaled(tape: Tape, lines: Symbol, count: Symbol) -> Symbol:
    """[n,a,b] uint8 -> [count,a,b] uint8: each line a weighted mean of those near it, rounded."""
    places, weights = taps(tape, tape.node("Shape", lines, attributes={"end": 1}, dtype=INT64), count)  # [count,taps]
    near = tape.cast(tape.node("Gather", lines, places, attributes={"axis": 0}), INT32)  # [count,taps,a,b]
    one = np.array([1], np.int64)
    weighted = tape.node("Mul", near, tape.node("Unsqueeze", weights, np.array([2, 3], np.int64)))
    total = tape.node("ReduceSum", weighted, one, attributes={"keepdims": 0})  # in 2^-22 of a level
    half, whole = (np.array([1 << bits], np.int32) for bits in (FRACTION_BITS - 1, FRACTION_BITS))
    return tape.cast(tape.node("Div", tape.node("Add", total, half), whole), UINT8)


def taps(tape: Tape, source: Symbol, target: Symbol) -> tuple[Symbol, Symbol]:
    """[target,taps] which of `source` lines each of `target` lines is made of, and their weights in 2^-22.

    The weights are a triangle around the line's centre, one line wide or, where lines get fewer, as wide as needed.

    Source: `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's libImaging/Resample.c.
    """
    one, half, places_axis = np.ones(1), np.full(1, 0.5), np.array([1], np.int64)
    step = tape.node("Div", tape.cast(source, DOUBLE), tape.cast(target, DOUBLE))
    width = tape.node("Max", step, one)
    centres = tape.node("Mul", tape.node("Add", tape.cast(count_to(tape, target), DOUBLE), half), step)
    centres = tape.node("Unsqueeze", centres, places_axis)  # [target,1]
    first = tape.node("Floor", tape.node("Add", tape.node("Sub", centres, width), half))
    how_many = tape.cast(tape.node("Ceil", tape.node("Add", tape.node("Add", width, width), one)), INT64)
    places = tape.node("Add", tape.cast(first, INT64), count_to(tape, how_many))  # [target,taps]
    inside = tape.node("Max", tape.node("Min", places, tape.node("Sub", source, places_axis)), np.zeros(1, np.int64))
    distances = tape.node("Abs", tape.node("Sub", tape.node("Add", tape.cast(places, DOUBLE), half), centres))
    triangle = tape.node("Max", tape.node("Sub", one, tape.node("Div", distances, width), dtype=DOUBLE), np.zeros(1))
    is_line = tape.cast(tape.node("Equal", places, inside, dtype=BOOL), DOUBLE)
    shares = tape.node("Mul", triangle, is_line)
    shares = tape.node("Div", shares, tape.node("ReduceSum", shares, places_axis))
    rounded = tape.node("Floor", tape.node("Add", tape.node("Mul", shares, np.full(1, 2.0**FRACTION_BITS)), half))
    return inside, tape.cast(rounded, INT32)


def count_to(tape: Tape, count: Symbol) -> Symbol:
    """[count] 0, 1, 2, …"""
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    return tape.node("Range", zero, tape.node("Squeeze", count), one, dtype=INT64)


def normalized(tape: Tape, batch: Symbol, preprocessing: Preprocessing) -> Symbol:
    """[1,3,h,w] uint8 -> float32, less the mean and over the deviation, both of which are first brought to 0..255."""
    mean, std = (
        (np.array(values) / preprocessing.rescale_factor).astype(np.float32).reshape(3, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    return tape.node("Div", tape.node("Sub", tape.cast(batch, SINGLE), mean), std)


def detections(tape: Tape, logits: Symbol, boxes_cxcywh: Symbol, hw: Symbol) -> tuple[Symbol, Symbol, Symbol]:
    """`detections.detections_of` and `by_score`: scores [n], labels [n] and boxes [n,4] in pixels of the image."""
    first, last, axis = (np.array([n], np.int64) for n in (0, -1, -1))
    probabilities = tape.node("Slice", tape.node("Softmax", logits, attributes={"axis": -1}), first, last, axis)
    classes = tape.node("Squeeze", probabilities, first)  # [1,Q,C] -> [Q,C]
    scores = tape.node("ReduceMax", classes, attributes={"axes": (-1,), "keepdims": 0})  # [Q]
    labels = tape.node("ArgMax", classes, attributes={"axis": -1, "keepdims": 0}, dtype=INT64)  # [Q]
    kept = tape.node("Greater", scores, Symbol(THRESHOLD), dtype=BOOL)
    count = tape.node("ReduceSum", tape.cast(kept, INT64), first)  # [1]
    best = tape.node("TopK", scores, count, unread=1, dtype=INT64)  # positions, of equal scores the first
    whwh = tape.cast(tape.node("Gather", hw, np.array([1, 0, 1, 0], np.int64)), SINGLE)
    corners = tape.node("MatMul", tape.node("Squeeze", boxes_cxcywh, first), TO_CORNERS)  # [Q,4]
    found = (scores, labels, tape.node("Mul", corners, whwh))
    scores, labels, boxes_xyxy = (tape.node("Gather", value, best) for value in found)
    return scores, labels, boxes_xyxy
