"""Attention maps: which cells of the image an object query attends to, and which ones a cell attends to.

The queries and keys are those of `transformer.py`. The softmax is computed a second time, but only for the queries and
cells that are asked for: that of all cells would take N² numbers in each head of each layer.
"""

from __future__ import annotations

from collections.abc import Sequence

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.ops import Ops, V
from detr_onnx.network.transformer import Features


def attention_of_objects(
    ops: Ops[V], config: DetrConfig, inputs: Sequence[tuple[V, V]], features: Features[V], kept: V
) -> V:
    """[K,L,M,h,w] the attention of the kept queries [K,2] to the memory, in each layer and head of the decoder."""
    weights = [
        ops.of_queries(ops.attention_weights(q, k, config.decoder_heads, features.key_bias), kept)  # [K,M,N]
        for q, k in inputs
    ]
    return ops.grid(ops.stack(weights, 1), features.projection)


def attention_of_cells(
    ops: Ops[V], config: DetrConfig, inputs: Sequence[tuple[V, V]], features: Features[V], points: V
) -> V:
    """[B,P,L,M,h,w] the attention of the cells [B,P] to each other, in each layer and head of the encoder."""
    weights = [
        ops.attention_weights(ops.rows_of(q, points), k, config.encoder_heads, features.key_bias)  # [B,P,M,N]
        for q, k in inputs
    ]
    return ops.grid(ops.stack(weights, 2), features.projection)
