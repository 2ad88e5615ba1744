"""The mask head of a panoptic DETR: the pixels of each object [Carion et al., 2020, figure 8].

object, memory ── attention map ──┐
projection ────────────────────── + ── convolutions, each with the stage of twice its size added ──► mask

Only queries that are kept get a mask, one after another: an image has about ten. What all queries of an image share is
computed once. Convolutions are linear, so their parts over the projection and over the stages of the backbone are added
to the parts over what a query has of its own.

Source: `models/segmentation.py` of facebookresearch/detr.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.ops import Ops, V
from detr_onnx.network.transformer import Features

Array = NDArray[np.float32]

GROUPS = 8  # of channels, which are normalised together
ADAPTERS = 3  # stages of the backbone whose feature maps are added, from the third to the first; some have no fourth


def adapter(ops: Ops[V], stage: int, feature: V) -> V:
    """The feature map of stage 1, 2 or 3 of the backbone, with as many channels as the mask head has at that size."""
    name = f"adapter{ADAPTERS + 1 - stage}"
    return ops.stage(name, ops.conv(name, feature))


def masks(ops: Ops[V], config: DetrConfig, features: Features[V], kept: V) -> V:
    """[K,h,w] logits of the masks of the kept queries, at the size of the first stage, a quarter of the pixels'.

    Args:
        ops: at the network's root.
        config: the model's sizes.
        features: of all images of the batch.
        kept: [K,2], the number of the image and the query of each mask.
    """
    attention, head = ops.at("bbox_attention"), ops.at("mask_head")
    q = attention.linear("q_linear", features.objects, scale=(config.d_model // config.encoder_heads) ** -0.5)
    k = attention.linear("k_linear", features.memory)
    shared = head.conv("lay1.projection", features.projection)
    shared_later = [head.conv(f"lay{layer}", adapted) for layer, adapted in enumerate(features.adapted, start=3)]

    def mask(inner: Ops[V], row: V) -> V:
        """[2] image and query -> [1,h,w]."""
        own, head = inner.of_image, inner.at("mask_head")
        bias = None if features.key_bias is None else own(features.key_bias, row)
        cells = inner.at("bbox_attention").attention_map(
            inner.of_query(q, row), own(k, row), config.encoder_heads, bias
        )  # [1,N,M]
        x = head.conv("lay1.attention", head.feature_map(cells, shared), residual=own(shared, row))
        x = head.group_norm("gn1", x, GROUPS)
        x = head.group_norm("gn2", head.conv("lay2", x), GROUPS)
        for layer, adapted in enumerate(shared_later, start=3):
            x = head.group_norm(f"gn{layer}", head.conv_resized(f"lay{layer}", x, own(adapted, row)), GROUPS)
        return head.plane(head.conv("out_lay", x))

    return ops.for_each(kept, features.adapted[-1], mask)


def split_first_layer(parameters: Mapping[str, Array]) -> dict[str, Array]:
    """The parameters with the mask head's first layer in two: over the projection, and over the attention map."""
    split = dict(parameters)
    if "mask_head.lay1.weight" in split:
        kernel, bias = split.pop("mask_head.lay1.weight"), split.pop("mask_head.lay1.bias")  # [kh,kw,in,out]
        width = len(split["input_projection.bias"])
        split["mask_head.lay1.projection.weight"] = np.ascontiguousarray(kernel[:, :, :width])
        split["mask_head.lay1.projection.bias"] = bias
        split["mask_head.lay1.attention.weight"] = np.ascontiguousarray(kernel[:, :, width:])
        split["mask_head.lay1.attention.bias"] = np.zeros_like(bias)
    return split


def mask_head_channels(config: DetrConfig) -> tuple[int, ...]:
    """Output channels of layers 1 to 5."""
    return (
        config.d_model + config.encoder_heads,
        config.d_model // 2,
        config.d_model // 4,
        config.d_model // 8,
        config.d_model // 16,
    )
