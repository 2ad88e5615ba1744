"""The transformer: an encoder over the cells of the image, a decoder over the object queries.

Positions are added to queries and keys in every layer, never to values [Carion et al., 2020, figure 10].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.ops import Ops, V


@dataclass(frozen=True)
class Cells(Generic[V]):
    """The cells of the image, apart from their features: their positions, and which of them are padding.

    Attributes:
        position: [B,N,D], or [1,N,D] if it is the same in all images.
        key_bias: keeps attention away from padding, as `Ops.attention` takes it; None when there is no padding.
    """

    position: V
    key_bias: V | None = None


@dataclass(frozen=True)
class AttentionInputs(Generic[V]):
    """Queries and keys of each layer, as `Ops.attention` takes them. Attention maps are computed from these.

    Attributes:
        encoder: of the self-attention, [B,N,D] and [B,N,D].
        decoder: of the attention to the memory, [B,Q,D] and [B,N,D].
    """

    encoder: list[tuple[V, V]] = field(default_factory=list)
    decoder: list[tuple[V, V]] = field(default_factory=list)


@dataclass(frozen=True)
class Features(Generic[V]):
    """What the heads, the masks and the attention maps are computed from.

    Attributes:
        projection: the backbone's last feature map, projected to D channels.
        adapted: for masks, the feature maps of stages 3, 2 and 1 after their adapters, each twice the size of the one
            before. The first has the projection's size if the backbone has three stages, or a dilated fourth. Empty in
            models without masks.
        memory: [B,N,D], from the encoder.
        objects: [B,Q,D], from the decoder.
        key_bias: as in `Cells`.
    """

    projection: V
    adapted: Sequence[V]
    memory: V
    objects: V
    key_bias: V | None


@dataclass(frozen=True)
class MultiHeadAttention(Generic[V]):
    """softmax(q kᵀ / √d) v in each of M heads, d = D/M: all of it that is the same in every layer.

    Attributes:
        heads: M.
        width: D.
        query_position: added to what attends, [B,Nq,D] or [1,Nq,D].
        key_position: added to what is attended to, [B,Nk,D] or [1,Nk,D].
        key_bias: as `Ops.attention` takes it.
        inputs: q and k of each layer are added to this list, if there is one.
    """

    heads: int
    width: int
    query_position: V
    key_position: V
    key_bias: V | None = None
    inputs: list[tuple[V, V]] | None = None

    def __call__(self, ops: Ops[V], x: V, source: V) -> V:
        """[B,Nq,D] attends to [B,Nk,D] -> [B,Nq,D]."""
        q = ops.linear("q_proj", x, plus=self.query_position, scale=(self.width // self.heads) ** -0.5)  # [B,Nq,D]
        k = ops.linear("k_proj", source, plus=self.key_position)  # [B,Nk,D]
        v = ops.linear("v_proj", source)  # [B,Nk,D]
        if self.inputs is not None:
            self.inputs.append((q, k))
        return ops.linear("out_proj", ops.attention(q, k, v, self.heads, self.key_bias))


def encoder(ops: Ops[V], config: DetrConfig, x: V, cells: Cells[V], inputs: AttentionInputs[V] | None = None) -> V:
    """[B,N,D] features of the cells -> [B,N,D] memory: every cell has attended to every other.

    The queries and keys of each layer are added to `inputs`, if given.
    """
    heads, width, position = config.encoder_heads, config.d_model, cells.position
    collected = inputs.encoder if inputs else None
    self_attention = MultiHeadAttention(heads, width, position, position, cells.key_bias, collected)
    for i in range(config.encoder_layers):
        x = encoder_layer(ops.at(f"layers.{i}"), x, self_attention, config.pre_norm)
        x = ops.stage(f"encoder.{i}", x)
    return ops.layer_norm("layernorm", x) if config.pre_norm else x


def decoder(
    ops: Ops[V], config: DetrConfig, query: V, memory: V, cells: Cells[V], inputs: AttentionInputs[V] | None = None
) -> V:
    """[1,Q,D] object queries and [B,N,D] memory -> [B,Q,D]: what each query has found. It begins with zeros.

    The queries and keys of each layer's attention to the memory are added to `inputs`, if given.
    """
    heads, width, position = config.decoder_heads, config.d_model, cells.position
    collected = inputs.decoder if inputs else None
    self_attention = MultiHeadAttention(heads, width, query, query)
    cross_attention = MultiHeadAttention(heads, width, query, position, cells.key_bias, collected)
    x = ops.multiply(query, 0.0)  # [1,Q,D]
    for i in range(config.decoder_layers):
        x = decoder_layer(ops.at(f"layers.{i}"), x, memory, self_attention, cross_attention, config.pre_norm)
        x = ops.stage(f"decoder.{i}", x)
        x = ops.layer_norm("layernorm", x) if config.norm_each_layer else x
    return ops.stage("decoder", ops.layer_norm("layernorm", x))


def encoder_layer(ops: Ops[V], x: V, self_attention: MultiHeadAttention[V], pre_norm: bool) -> V:
    """[B,N,D] -> [B,N,D]."""
    x = residual(ops, "self_attn_layer_norm", x, lambda y: self_attention(ops.at("self_attn"), y, y), pre_norm)
    return residual(ops, "final_layer_norm", x, lambda y: feed_forward(ops, y), pre_norm)


def decoder_layer(
    ops: Ops[V],
    x: V,
    memory: V,
    self_attention: MultiHeadAttention[V],
    cross_attention: MultiHeadAttention[V],
    pre_norm: bool,
) -> V:
    """[B,Q,D] -> [B,Q,D]: the queries attend to each other, then to the memory."""
    x = residual(ops, "self_attn_layer_norm", x, lambda y: self_attention(ops.at("self_attn"), y, y), pre_norm)
    x = residual(
        ops, "encoder_attn_layer_norm", x, lambda y: cross_attention(ops.at("encoder_attn"), y, memory), pre_norm
    )
    return residual(ops, "final_layer_norm", x, lambda y: feed_forward(ops, y), pre_norm)


def residual(ops: Ops[V], norm: str, x: V, sublayer: Callable[[V], V], pre_norm: bool) -> V:
    """x plus a sub-layer of it, normalised after the sum (DETR) or before the sub-layer (Table Transformer)."""
    if pre_norm:
        return ops.add(x, sublayer(ops.layer_norm(norm, x)))
    return ops.layer_norm(norm, ops.add(x, sublayer(x)))


def feed_forward(ops: Ops[V], x: V) -> V:
    """[B,N,D] -> [B,N,ffn] -> [B,N,D]."""
    return ops.linear("fc2", ops.linear("fc1", x, relu=True))
