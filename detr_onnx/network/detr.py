"""DETR, end to end: backbone, transformer, heads [Carion et al., 2020, figure 2].

pixels ── backbone ── projection ── encoder ── memory ─┐
                          position ─┘                  decoder ── classes, boxes
                                    object queries ────┘             └──── masks (panoptic models)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detr_onnx.network.attention import attention_of_cells, attention_of_objects
from detr_onnx.network.config import DetrConfig
from detr_onnx.network.ops import Ops, V
from detr_onnx.network.position import sine_position
from detr_onnx.network.resnet import fold_batch_norm, stages
from detr_onnx.network.segmentation import ADAPTERS, adapter, masks, split_first_layer
from detr_onnx.network.transformer import AttentionInputs, Cells, Features, decoder, encoder

Array = NDArray[np.float32]

BOX_LAYERS = 3


def detr(ops: Ops[V], config: DetrConfig, pixels: V, mask: V | None) -> tuple[V, V]:
    """Logits [B,Q,C+1], the last class being "no object", and boxes [B,Q,4], cxcywh in 0..1 of each image.

    Args:
        ops: at the network's root.
        config: the model's sizes.
        pixels: [B,3,H,W], normalised.
        mask: [B,H,W], True where there is image; None when there is no padding.
    """
    return class_and_box(ops, backbone_and_transformer(ops, config, pixels, mask).objects)


def panoptic_detr(ops: Ops[V], config: DetrConfig, pixels: V, mask: V | None, threshold: V) -> tuple[V, V, V, V]:
    """Logits and boxes as `detr`; then the queries that have masks, and these.

    Args:
        ops, config, pixels, mask: as `detr` takes them.
        threshold: [1]; queries are kept whose score is greater.

    Returns:
        logits: [B,Q,C+1].
        boxes: [B,Q,4].
        kept: [K,2], image and query of each mask, in this order.
        masks: [K,⌈H/4⌉,⌈W/4⌉], logits.
    """
    features = backbone_and_transformer(ops, config, pixels, mask)
    logits, boxes = class_and_box(ops, features.objects)
    kept = ops.above(logits, threshold)
    return logits, boxes, kept, ops.stage("masks", masks(ops, config, features, kept))


def detr_with_attention(
    ops: Ops[V], config: DetrConfig, pixels: V, mask: V | None, threshold: V, points: V
) -> tuple[V, V, V, V, V]:
    """Logits and boxes as `detr`; then where queries and cells look, L layers and M heads of each.

    Args:
        ops, config, pixels, mask: as `detr` takes them.
        threshold: [1]; queries are kept whose score is greater.
        points: [B,P] numbers of cells, row by row.

    Returns:
        logits: [B,Q,C+1].
        boxes: [B,Q,4].
        kept: [K,2], image and query of each query that is kept, in this order.
        objects: [K,L,M,h,w], the attention of the kept queries to the memory.
        cells: [B,P,L,M,h,w], the attention of these cells to each other cell in the encoder.
    """
    inputs: AttentionInputs[V] = AttentionInputs()
    features = backbone_and_transformer(ops, replace(config, masks=False), pixels, mask, inputs)
    logits, boxes = class_and_box(ops, features.objects)
    kept, inner = ops.above(logits, threshold), ops.at("attention")
    objects = attention_of_objects(inner, config, inputs.decoder, features, kept)
    return logits, boxes, kept, objects, attention_of_cells(inner, config, inputs.encoder, features, points)


def backbone_and_transformer(
    ops: Ops[V], config: DetrConfig, pixels: V, mask: V | None, inputs: AttentionInputs[V] | None = None
) -> Features[V]:
    """All of the network but its heads. The queries and keys of each layer are added to `inputs`, if given."""
    adapted: list[V] = []
    for stage, feature in enumerate(stages(ops.at("backbone"), config.backbone, pixels), start=1):
        if config.masks and stage <= ADAPTERS:
            adapted.insert(0, adapter(ops.at("mask_head"), stage, feature))
    valid = ops.at("position").valid_cells(feature, mask)  # [B,h,w]
    position = ops.stage("position", sine_position(ops.at("position"), valid, config.d_model))  # [B,N,D]
    cells = Cells(position, None if mask is None else ops.at("position").key_bias(valid))

    projection = ops.stage("projection", ops.conv("input_projection", feature))
    memory = encoder(ops.at("encoder"), config, ops.tokens(projection), cells, inputs)  # [B,N,D]

    query = ops.parameter("query_position_embeddings.weight")  # [1,Q,D]
    objects = decoder(ops.at("decoder"), config, query, memory, cells, inputs)  # [B,Q,D]
    return Features(projection, adapted, memory, objects, cells.key_bias)


def class_and_box(ops: Ops[V], objects: V) -> tuple[V, V]:
    """[B,Q,D] -> logits [B,Q,C+1] and boxes [B,Q,4]."""
    logits = ops.linear("class_labels_classifier", objects)
    return ops.stage("logits", logits), ops.stage("boxes", boxes(ops, objects))


def boxes(ops: Ops[V], x: V) -> V:
    """[B,Q,D] -> [B,Q,4], cxcywh in 0..1."""
    box = ops.at("bbox_predictor")
    for i in range(BOX_LAYERS):
        x = box.linear(f"layers.{i}", x, relu=i < BOX_LAYERS - 1)
    return box.sigmoid(x)


def parameters(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Canonical tensors -> the parameters that an `Ops` of the network's root needs."""
    return split_first_layer(fold_batch_norm(tensors))


def stage_names(config: DetrConfig) -> tuple[str, ...]:
    """The names of all stages, in the order of computation."""
    return (
        "stem",
        *(f"stage{s}" for s in range(1, 1 + len(config.backbone.depths))),
        *(f"adapter{k}" for k in range(ADAPTERS if config.masks else 0, 0, -1)),
        "position",
        "projection",
        *(f"encoder.{i}" for i in range(config.encoder_layers)),
        *(f"decoder.{i}" for i in range(config.decoder_layers)),
        "decoder",
        "logits",
        "boxes",
        *(["masks"] if config.masks else []),
    )
