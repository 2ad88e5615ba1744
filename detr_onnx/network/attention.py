"""Attention maps: which cells of the image a query looks at, and which ones a cell looks at.

The queries and keys are those of `transformer.py`. Only the softmax of what is asked for is computed a second time: the
attention of all cells to all others would take N² numbers in each head of each layer.
"""

from __future__ import annotations

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.ops import Ops, V
from detr_onnx.network.segmentation import Context
from detr_onnx.network.transformer import Looks


def attention_of_objects(ops: Ops[V], config: DetrConfig, looks: Looks[V], context: Context[V], kept: V) -> V:
    """[K,L,M,h,w] the attention of the kept queries [K,2] to the memory, in each layer and head of the decoder."""
    weights = [
        ops.of_queries(ops.attention_weights(q, k, config.decoder_heads, context.key_bias), kept)  # [K,M,N]
        for q, k in looks.objects
    ]
    return ops.grid(ops.stack(weights, 1), context.projection)


def attention_of_cells(ops: Ops[V], config: DetrConfig, looks: Looks[V], context: Context[V], points: V) -> V:
    """[B,P,L,M,h,w] the attention of the cells [B,P] to each other, in each layer and head of the encoder."""
    weights = [
        ops.attention_weights(ops.rows_of(q, points), k, config.encoder_heads, context.key_bias)  # [B,P,M,N]
        for q, k in looks.cells
    ]
    return ops.grid(ops.stack(weights, 2), context.projection)
