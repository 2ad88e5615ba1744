"""DETR, end to end: backbone, transformer, two heads [Carion et al., 2020, figure 2].

pixels ── backbone ── projection ── encoder ── memory ─┐
                          position ─┘                  decoder ── classes, boxes
                                    object queries ────┘
"""

from __future__ import annotations

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.ops import Ops, V
from detr_onnx.network.position import sine_position
from detr_onnx.network.resnet import resnet
from detr_onnx.network.transformer import decoder, encoder

BOX_LAYERS = 3


def detr(ops: Ops[V], config: DetrConfig, pixels: V, mask: V | None) -> tuple[V, V]:
    """Logits [B,Q,C+1], the last class being "no object", and boxes [B,Q,4], cxcywh in 0..1 of each image.

    Args:
        ops: at the network's root.
        config: the model's sizes.
        pixels: [B,3,H,W], normalised.
        mask: [B,H,W], True where there is image; None when there is no padding.
    """
    feature = resnet(ops.at("backbone"), config.backbone, pixels)
    valid = ops.at("position").valid_cells(feature, mask)  # [B,h,w]
    position = ops.stage("position", sine_position(ops.at("position"), valid, config.d_model))  # [B,N,D]
    key_bias = None if mask is None else ops.at("position").key_bias(valid)

    cells = ops.tokens(ops.stage("projection", ops.conv("input_projection", feature)))  # [B,N,D]
    memory = encoder(ops.at("encoder"), config, cells, position, key_bias)  # [B,N,D]

    query = ops.parameter("query_position_embeddings.weight")  # [1,Q,D]
    objects = decoder(ops.at("decoder"), config, ops.multiply(query, 0.0), query, memory, position, key_bias)  # [B,Q,D]
    logits = ops.linear("class_labels_classifier", objects)  # [B,Q,C+1]
    return ops.stage("logits", logits), ops.stage("boxes", boxes(ops, objects))


def boxes(ops: Ops[V], x: V) -> V:
    """[B,Q,D] -> [B,Q,4], cxcywh in 0..1."""
    box = ops.at("bbox_predictor")
    for i in range(BOX_LAYERS):
        x = box.linear(f"layers.{i}", x, relu=i < BOX_LAYERS - 1)
    return box.sigmoid(x)


def stage_names(config: DetrConfig) -> tuple[str, ...]:
    """The names of all stages, in the order of computation."""
    return (
        "stem",
        *(f"stage{s}" for s in range(1, 1 + len(config.backbone.depths))),
        "position",
        "projection",
        *(f"encoder.{i}" for i in range(config.encoder_layers)),
        *(f"decoder.{i}" for i in range(config.decoder_layers)),
        "decoder",
        "logits",
        "boxes",
    )
