"""A graph that includes pre- and postprocessing: an image's pixels in, scores, labels and boxes out.

    image [H,W,3] uint8 ── size ── resized ── normalized ── detr ── detections ──► scores, labels, boxes
                                                                        └── masks at the image's size (panoptic models)

These steps exist only in ONNX, so their nodes are recorded here, not through `Ops`; the network between is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detr_onnx.errors import UsageError
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.masks import MASK_THRESHOLD
from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import backbone_and_transformer, class_and_box
from detr_onnx.network.graph import BOOL, DOUBLE, INT32, INT64, OMITTED, SINGLE, UINT8, Attribute, Graph, Symbol, Value
from detr_onnx.network.onnx_masks import concatenated
from detr_onnx.network.onnx_ops import OnnxOps
from detr_onnx.network.segmentation import masks

IMAGE, THRESHOLD = "image", "threshold"
SCORES, LABELS, BOXES, MASKS = "scores", "labels", "boxes", "masks"
MASK_QUERIES = "mask_queries"  # the name by which `engines/loops.py` knows that a loop is that of a mask head
FRACTION_BITS = 22  # of Pillow's weights: sums of 8-bit values times weights fit in 32 bits

TO_CORNERS = np.array(
    [[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32
)  # (x, y, w, h) · this = (x - w/2, y - h/2, x + w/2, y + h/2)


@dataclass(frozen=True)
class Scope:
    """Part of a graph, which names the nodes recorded in it."""

    graph: Graph
    name: str

    def node(
        self,
        op_type: str,
        *inputs: Value,
        attributes: Mapping[str, Attribute] | None = None,
        dtype: np.dtype[Any] | None = None,
        unread: int = 0,
    ) -> Symbol:
        """See `Graph.node`."""
        return self.graph.node(op_type, (self.name,), inputs, attributes, dtype=dtype, unread=unread)

    def cast(self, x: Symbol, dtype: np.dtype[Any]) -> Symbol:
        """The value in another type."""
        return self.graph.cast(x, (self.name,), dtype)

    def single(self, x: Value) -> Symbol:
        """The value in float32."""
        if not isinstance(x, Symbol):
            return self.graph.constant(x, f"{self.name}_constant")
        return x if x.dtype == SINGLE else self.cast(x, SINGLE)


def record_end_to_end(ops: OnnxOps, config: DetrConfig, preprocessing: Preprocessing) -> None:
    """Records the whole graph: inputs `image` [H,W,3] uint8 and `threshold` [1].

    Outputs, best score first: `scores` [n], `labels` [n], `boxes` [n,4]; of panoptic models also `masks` [n,H,W] bool.

    Args:
        ops: at the network's root; the precision is of the network alone, all the rest is in float32.
        config: the model's sizes.
        preprocessing: sizes and statistics.
    """
    if preprocessing.pad_hw is not None:
        found = "pad_size {}x{}".format(*preprocessing.pad_hw)
        raise UsageError("an end-to-end graph cannot pad images", found=found, remedy="export it without --end-to-end")
    graph = ops.graph
    image, threshold = graph.input(IMAGE, UINT8, ["height", "width", 3]), graph.input(THRESHOLD, shape=[1])
    sizing, pixels, answer = (Scope(graph, name) for name in ("size", "pixels", "answer"))
    hw = sizing.node("Shape", image, attributes={"start": 0, "end": 2}, dtype=INT64)
    if preprocessing.resize:
        image = resized(pixels, image, size(sizing, hw, preprocessing))
    batch = normalized(pixels, batch_of(pixels, image), preprocessing)
    context = backbone_and_transformer(ops, config, batch, None)
    logits, boxes_cxcywh = (answer.single(value) for value in class_and_box(ops, context.objects))
    best, scores, labels, boxes = detections(answer, logits, boxes_cxcywh, hw, threshold)
    graph.add_output(scores, SCORES, ["detections"])
    graph.add_output(labels, LABELS, ["detections"])
    graph.add_output(boxes, BOXES, ["detections", 4])
    if config.masks:
        rows = kept_rows(answer, best)
        graph.value_names[rows] = MASK_QUERIES
        mask_logits = answer.single(masks(ops, config, context, rows))
        graph.add_output(at_full_size(Scope(graph, MASKS), mask_logits, hw), MASKS, ["detections", "height", "width"])


def size(scope: Scope, hw: Symbol, preprocessing: Preprocessing) -> Value:
    """[2] height and width that an image of `hw` is scaled to: `Preprocessing.resized_hw`, in float64 like Python's."""
    if preprocessing.fixed_hw is not None:
        return np.array(preprocessing.fixed_hw, np.int64)
    sides, one = scope.cast(hw, DOUBLE), np.ones(1, np.int64)
    if preprocessing.max_hw is not None:  # as sizes.bounded_hw
        scales = scope.node("Div", np.array(preprocessing.max_hw, np.float64), sides)
        bounded = scope.node("Mul", sides, scope.node("ReduceMin", scales))
        return scope.node("Max", scope.cast(bounded, INT64), one)
    shortest, longest = (
        np.array([edge], np.float64) for edge in (preprocessing.shortest_edge, preprocessing.longest_edge)
    )
    short, long = (scope.node(f"Reduce{which}", sides) for which in ("Min", "Max"))  # [1]
    too_long = scope.node("Greater", scope.node("Mul", scope.node("Div", long, short), shortest), longest, dtype=BOOL)
    limited = scope.node("Div", scope.node("Mul", short, longest), long)
    short_exact = scope.node("Where", too_long, limited, shortest, dtype=DOUBLE)
    short_px = scope.node("Round", short_exact)  # halves to even, as Python
    long_px = scope.node("Floor", scope.node("Div", scope.node("Mul", short_exact, long), short))
    scaled = [scope.node("Max", scope.cast(px, INT64), one) for px in (short_px, long_px)]
    is_short = scope.node("Equal", sides, short, dtype=BOOL)  # [2]
    has_its_size = scope.node("Equal", short, short_px, dtype=BOOL)  # [1]
    return scope.node("Where", has_its_size, hw, scope.node("Where", is_short, *scaled, dtype=INT64), dtype=INT64)


def batch_of(scope: Scope, image: Symbol) -> Symbol:
    """[H,W,3] -> [1,3,H,W]."""
    channels_first = scope.node("Transpose", image, attributes={"perm": (2, 0, 1)})
    return scope.node("Unsqueeze", channels_first, np.array([0], np.int64))


def resized(scope: Scope, image: Symbol, hw: Value) -> Symbol:
    """[H,W,3] uint8 -> [h,w,3] uint8: Pillow's antialiased bilinear, bit for bit, one axis after the other.

    For images more than twice as high as wide Pillow resizes the axes in the other order; they may differ by 1 of 255.
    """
    zero, one, two = (np.array([n], np.int64) for n in (0, 1, 2))
    height, width = scope.node("Slice", hw, zero, one), scope.node("Slice", hw, one, two)
    columns = scope.node("Transpose", image, attributes={"perm": (1, 2, 0)})  # [W,3,H]
    rows = scope.node("Transpose", scaled(scope, columns, width), attributes={"perm": (2, 1, 0)})  # [w,3,H] -> [H,3,w]
    return scope.node("Transpose", scaled(scope, rows, height), attributes={"perm": (0, 2, 1)})  # [h,3,w] -> [h,w,3]


def scaled(scope: Scope, lines: Symbol, count: Symbol) -> Symbol:
    """[n,a,b] uint8 -> [count,a,b] uint8: each line is a weighted mean of those near it, rounded."""
    lines_read, weights = taps(
        scope, scope.node("Shape", lines, attributes={"end": 1}, dtype=INT64), count
    )  # [count,taps]
    near = scope.cast(scope.node("Gather", lines, lines_read, attributes={"axis": 0}), INT32)  # [count,taps,a,b]
    one = np.array([1], np.int64)
    weighted = scope.node("Mul", near, scope.node("Unsqueeze", weights, np.array([2, 3], np.int64)))
    total = scope.node("ReduceSum", weighted, one, attributes={"keepdims": 0})  # in units of 2^-22
    half, whole = (np.array([1 << bits], np.int32) for bits in (FRACTION_BITS - 1, FRACTION_BITS))
    return scope.cast(scope.node("Div", scope.node("Add", total, half), whole), UINT8)


def taps(scope: Scope, source: Symbol, target: Symbol) -> tuple[Symbol, Symbol]:
    """[target,taps] which of `source` lines each of `target` lines is a mean of, and their weights in 2^-22.

    The weights are a triangle around the line's centre: one line wide, or as wide as the scale when lines get fewer.

    Source: `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's libImaging/Resample.c.
    """
    one, half, axis = np.ones(1), np.full(1, 0.5), np.array([1], np.int64)
    step = scope.node("Div", scope.cast(source, DOUBLE), scope.cast(target, DOUBLE))
    width = scope.node("Max", step, one)
    centres = scope.node("Mul", scope.node("Add", scope.cast(count_to(scope, target), DOUBLE), half), step)
    centres = scope.node("Unsqueeze", centres, axis)  # [target,1]
    first = scope.node("Floor", scope.node("Add", scope.node("Sub", centres, width), half))
    count = scope.cast(scope.node("Ceil", scope.node("Add", scope.node("Add", width, width), one)), INT64)
    lines = scope.node("Add", scope.cast(first, INT64), count_to(scope, count))  # [target,taps]
    last = scope.node("Sub", source, axis)
    inside = scope.node("Max", scope.node("Min", lines, last), np.zeros(1, np.int64))
    distances = scope.node("Abs", scope.node("Sub", scope.node("Add", scope.cast(lines, DOUBLE), half), centres))
    triangle = scope.node("Max", scope.node("Sub", one, scope.node("Div", distances, width), dtype=DOUBLE), np.zeros(1))
    is_line = scope.cast(scope.node("Equal", lines, inside, dtype=BOOL), DOUBLE)
    weights = scope.node("Mul", triangle, is_line)
    weights = scope.node("Div", weights, scope.node("ReduceSum", weights, axis))
    rounded = scope.node("Floor", scope.node("Add", scope.node("Mul", weights, np.full(1, 2.0**FRACTION_BITS)), half))
    return inside, scope.cast(rounded, INT32)


def count_to(scope: Scope, count: Symbol) -> Symbol:
    """[count] 0, 1, 2, …"""
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    return scope.node("Range", zero, scope.node("Squeeze", count), one, dtype=INT64)


def normalized(scope: Scope, batch: Symbol, preprocessing: Preprocessing) -> Symbol:
    """[1,3,h,w] uint8 -> float32: (value - mean) / std, with mean and std scaled to 0..255."""
    mean, std = (
        (np.array(values) / preprocessing.rescale_factor).astype(np.float32).reshape(3, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    return scope.node("Div", scope.node("Sub", scope.cast(batch, SINGLE), mean), std)


def kept_rows(scope: Scope, queries: Symbol) -> Symbol:
    """[n] -> [n,2]: image, which is the first, and query, as the mask head takes them."""
    column = scope.node("Unsqueeze", queries, np.array([1], np.int64))
    return scope.node("Concat", scope.node("Sub", column, column), column, attributes={"axis": 1})


def at_full_size(scope: Scope, logits: Symbol, hw: Symbol) -> Symbol:
    """[n,h,w] -> [n,H,W] bool: `MaskLogits.boolean`, one mask at a time, which bounds the memory."""
    shape = scope.node("Concat", np.zeros(1, np.int64), hw, attributes={"axis": 0})
    none = scope.node("ConstantOfShape", shape, attributes={"value": np.zeros(1, np.bool_)}, dtype=BOOL)

    def mask(inner: Graph, number: Symbol) -> Symbol:
        """The mask [1,H,W] of one row."""
        own = Scope(inner, scope.name)
        first, front = np.array([0], np.int64), np.array([0, 1], np.int64)
        cells = own.node("Sigmoid", own.node("Gather", logits, number, attributes={"axis": 0}))  # [h,w]
        size = own.node("Concat", np.ones(2, np.int64), hw, attributes={"axis": 0})
        attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        pixels = own.node("Resize", own.node("Unsqueeze", cells, front), OMITTED, OMITTED, size,
                          attributes=attributes)  # fmt: skip
        half = np.full(1, MASK_THRESHOLD, np.float32)
        return own.node("Squeeze", own.node("GreaterOrEqual", pixels, half, dtype=BOOL), first)

    return concatenated(scope.graph, (scope.name,), logits, none, mask)


def detections(
    scope: Scope, logits: Symbol, boxes_cxcywh: Symbol, hw: Symbol, threshold: Symbol
) -> tuple[Symbol, Symbol, Symbol, Symbol]:
    """`detections_of` and `by_score`: queries [n], scores [n], labels [n], and boxes [n,4] in pixels of the image."""
    first, last, axis = (np.array([n], np.int64) for n in (0, -1, -1))
    probabilities = scope.node("Slice", scope.node("Softmax", logits, attributes={"axis": -1}), first, last, axis)
    classes = scope.node("Squeeze", probabilities, first)  # [1,Q,C] -> [Q,C]
    scores = scope.node("ReduceMax", classes, attributes={"axes": (-1,), "keepdims": 0})  # [Q]
    labels = scope.node("ArgMax", classes, attributes={"axis": -1, "keepdims": 0}, dtype=INT64)  # [Q]
    above = scope.node("Greater", scores, threshold, dtype=BOOL)
    count = scope.node("ReduceSum", scope.cast(above, INT64), first)  # [1]
    queries = scope.node("Shape", scores, dtype=INT64)  # [1]; of a constant shape, as OpenVINO has no TopK of none
    ranked = scope.node("TopK", scores, queries, unread=1, dtype=INT64)  # of equal scores, the first
    best = scope.node("Slice", ranked, first, count)  # [n]
    whwh = scope.cast(scope.node("Gather", hw, np.array([1, 0, 1, 0], np.int64)), SINGLE)
    corners = scope.node("MatMul", scope.node("Squeeze", boxes_cxcywh, first), TO_CORNERS)  # [Q,4]
    of_queries = (scores, labels, scope.node("Mul", corners, whwh))
    scores, labels, boxes_xyxy = (scope.node("Gather", value, best) for value in of_queries)
    return best, scores, labels, boxes_xyxy
