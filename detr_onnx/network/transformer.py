"""The transformer: an encoder over the cells of the image, a decoder over the object queries.

Positions are added to queries and keys in every layer, never to values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.ops import Ops, V


@dataclass(frozen=True)
class Looks(Generic[V]):
    """What looks at what, layer by layer: queries and keys of attention, as `Ops.attention` takes them.

    Attributes:
        cells: of the encoder's self-attention, [B,N,D] and [B,N,D].
        objects: of the decoder's attention to the memory, [B,Q,D] and [B,N,D].
    """

    cells: list[tuple[V, V]] = field(default_factory=list)
    objects: list[tuple[V, V]] = field(default_factory=list)


def encoder(ops: Ops[V], config: DetrConfig, x: V, position: V, key_bias: V | None, looks: Looks[V] | None = None) -> V:
    """[B,N,D] cells -> [B,N,D] memory: every cell has seen every other. `looks`, if given, is filled."""
    for i in range(config.encoder_layers):
        x = encoder_layer(ops.at(f"layers.{i}"), config, x, position, key_bias, looks)
        x = ops.stage(f"encoder.{i}", x)
    return ops.layer_norm("layernorm", x) if config.pre_norm else x


def decoder(
    ops: Ops[V],
    config: DetrConfig,
    x: V,
    query: V,
    memory: V,
    position: V,
    key_bias: V | None,
    looks: Looks[V] | None = None,
) -> V:
    """[B,Q,D] zeros, the queries' own embedding and the memory -> [B,Q,D]: what each query has found."""
    for i in range(config.decoder_layers):
        x = decoder_layer(ops.at(f"layers.{i}"), config, x, query, memory, position, key_bias, looks)
        x = ops.stage(f"decoder.{i}", x)
    return ops.stage("decoder", ops.layer_norm("layernorm", x))


def encoder_layer(ops: Ops[V], config: DetrConfig, x: V, position: V, key_bias: V | None, looks: Looks[V] | None) -> V:
    """[B,N,D] -> [B,N,D]."""
    heads, width, cells = config.encoder_heads, config.d_model, looks.cells if looks else None

    def attend(y: V) -> V:
        return attention(ops.at("self_attn"), y, y, position, position, key_bias, heads, width, cells)

    x = residual(ops, "self_attn_layer_norm", x, attend, config.pre_norm)
    return residual(ops, "final_layer_norm", x, lambda y: feed_forward(ops, y), config.pre_norm)


def decoder_layer(
    ops: Ops[V],
    config: DetrConfig,
    x: V,
    query: V,
    memory: V,
    position: V,
    key_bias: V | None,
    looks: Looks[V] | None,
) -> V:
    """[B,Q,D] -> [B,Q,D]: the queries look at each other, then at the memory."""
    heads, width, objects = config.decoder_heads, config.d_model, looks.objects if looks else None

    def attend(y: V) -> V:
        return attention(ops.at("self_attn"), y, y, query, query, None, heads, width)

    def look(y: V) -> V:
        return attention(ops.at("encoder_attn"), y, memory, query, position, key_bias, heads, width, objects)

    x = residual(ops, "self_attn_layer_norm", x, attend, config.pre_norm)
    x = residual(ops, "encoder_attn_layer_norm", x, look, config.pre_norm)
    return residual(ops, "final_layer_norm", x, lambda y: feed_forward(ops, y), config.pre_norm)


def residual(ops: Ops[V], norm: str, x: V, sublayer: Callable[[V], V], pre_norm: bool) -> V:
    """x plus a sub-layer of it, normalised after the sum (DETR) or before the sub-layer (Table Transformer)."""
    if pre_norm:
        return ops.add(x, sublayer(ops.layer_norm(norm, x)))
    return ops.layer_norm(norm, ops.add(x, sublayer(x)))


def attention(
    ops: Ops[V],
    x: V,
    source: V,
    x_position: V,
    source_position: V,
    key_bias: V | None,
    heads: int,
    width: int,
    looks: list[tuple[V, V]] | None = None,
) -> V:
    """[B,Nq,D] attends to [B,Nk,D] -> [B,Nq,D]: softmax(q kᵀ / √d) v, d = D/M, in each of M heads.

    q and k are appended to `looks`, if given.
    """
    q = ops.linear("q_proj", x, plus=x_position, scale=(width // heads) ** -0.5)  # [B,Nq,D]
    k = ops.linear("k_proj", source, plus=source_position)  # [B,Nk,D]
    v = ops.linear("v_proj", source)  # [B,Nk,D]
    if looks is not None:
        looks.append((q, k))
    return ops.linear("out_proj", ops.attention(q, k, v, heads, key_bias))


def feed_forward(ops: Ops[V], x: V) -> V:
    """[B,N,D] -> [B,N,ffn] -> [B,N,D]."""
    return ops.linear("fc2", ops.linear("fc1", x, relu=True))
