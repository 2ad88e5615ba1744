"""Sine position embedding: where a cell stands in its own image, padding not counted [DETR paper, appendix A.4]."""

from __future__ import annotations

import math

from detr_onnx.network.ops import Ops, V

TEMPERATURE = 10000.0  # wavelengths run from 2π to 2π · 10000, as in "Attention is all you need"
EPS = 1e-6  # models/position_encoding.py of facebookresearch/detr


def sine_position(ops: Ops[V], valid: V, width: int) -> V:
    """[B,h,w] valid cells -> [B,N,D]: the first half of D encodes y, the second x."""
    y = waves(ops.at("y"), angle(ops.at("y"), valid, axis=1), width // 2)  # [B,h,w] -> [B,N,D/2]
    x = waves(ops.at("x"), angle(ops.at("x"), valid, axis=2), width // 2)  # [B,h,w] -> [B,N,D/2]
    return ops.concatenate(y, x)  # [B,N,D]


def angle(ops: Ops[V], valid: V, axis: int) -> V:
    """[B,h,w] -> [B,h,w] in 0..2π: the cell's number among the valid ones along the axis, over how many there are."""
    count = ops.cumulative_sum(valid, axis)  # 1, 2, 3, … and no further in the padding
    return ops.multiply(ops.divide(count, ops.add(ops.last(count, axis), EPS)), 2 * math.pi)


def waves(ops: Ops[V], angles: V, features: int) -> V:
    """[B,h,w] -> [B,N,features]: sine and cosine of each angle over a ladder of periods."""
    periods = tuple(TEMPERATURE ** (2 * i / features) for i in range(features // 2))
    phases = ops.divide(ops.column(angles), ops.constant(periods))  # [B,N,1] -> [B,N,features/2]
    return ops.interleave(ops.sin(phases), ops.cos(phases))  # [B,N,features]
