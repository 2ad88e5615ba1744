"""The torch model of `transformers` with our tensors, with which every stage is compared.

Only this package's tests and `tests/parity/golden_values.py` use it; it needs torch and transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrForSegmentation,
    PreTrainedModel,
    ResNetBackbone,
    TableTransformerConfig,
    TableTransformerForObjectDetection,
)

from detr_onnx.network import config as ours
from tests.parity.seeded import HF_NATIVE, PANOPTIC_V5, V5_NATIVE, huggingface_config, spelled

Array = NDArray[np.float32]


def torch_model(config: ours.DetrConfig, tensors: Mapping[str, Array]) -> PreTrainedModel:
    """The model of transformers with these canonical tensors, in evaluation mode.

    Its backbone is always transformers' own ResNet, so that timm, whose ResNet can dilate, need not be installed.
    """
    undilated = replace(config, backbone=replace(config.backbone, dilation=False))
    fields = huggingface_config(undilated)
    if config.pre_norm:
        model, spelling = TableTransformerForObjectDetection(TableTransformerConfig(**fields)), HF_NATIVE
    elif config.masks:
        model, spelling = DetrForSegmentation(DetrConfig(**fields)), PANOPTIC_V5
    else:
        model, spelling = DetrForObjectDetection(DetrConfig(**fields)), V5_NATIVE
    if config.backbone.dilation:
        dilate(_resnet(model).encoder.stages[-1])
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in spelled(tensors, spelling).items()}
    model.load_state_dict(state, strict=True)
    return model.eval()


def dilate(stage: nn.Module) -> None:
    """Turns the last stage of transformers' ResNet into that of DC5: no stride, and dilation 2 but in the first 3x3.

    As torchvision's `replace_stride_with_dilation` and timm's `output_stride=16` do.
    """
    strided = [conv for conv in stage.modules() if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2)]
    for conv in strided:
        conv.stride = (1, 1)
    spatial = [conv for conv in stage.modules() if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3)]
    for conv in spatial[1:]:
        conv.dilation = conv.padding = (2, 2)


def _resnet(model: PreTrainedModel) -> ResNetBackbone:
    """Transformers' ResNet inside a model."""
    return next(module for module in model.modules() if isinstance(module, ResNetBackbone))


def torch_stages(model: PreTrainedModel, pixels: Array, mask: NDArray[np.bool_] | None) -> dict[str, Array]:
    """Stage's name -> its value in the torch model, with the names and shapes of `network.detr.stage_names`."""
    stages: dict[str, Array] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: stages.update({name: _array(output)}))
        for name, module in _modules(model).items()
    ]
    with torch.no_grad():
        output = model(
            pixel_values=torch.from_numpy(pixels),
            pixel_mask=None if mask is None else torch.from_numpy(mask.astype(np.int64)),
        )
    for hook in hooks:
        hook.remove()
    B, D, h, w = stages["position"].shape
    stages["position"] = stages["position"].reshape(B, D, h * w).transpose(0, 2, 1)
    stages |= {"logits": _array(output.logits), "boxes": _array(output.pred_boxes)}
    for name in [name for name in stages if name.startswith("adapter")]:  # computed once a query
        stages[name] = stages[name][:: output.logits.shape[1]]
    return stages | ({"masks": _array(output.pred_masks).reshape(-1, *output.pred_masks.shape[2:])}
                     if isinstance(model, DetrForSegmentation) else {})  # fmt: skip


def _modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Stage's name -> the module whose output it is.

    Hooks, because `output_hidden_states` gives the last decoder layer's state only after the final norm.
    """
    detector = model.detr if isinstance(model, DetrForSegmentation) else model
    inner, resnet = detector.model, _resnet(model)
    position = next(m for name, m in model.named_modules() if name.endswith("position_embedding"))
    return {
        "stem": resnet.embedder,
        **{f"stage{s}": stage for s, stage in enumerate(resnet.encoder.stages, start=1)},
        **{f"adapter{k}": stage.fpn_adapter for k, stage in enumerate(_fusion_stages(model), start=1)},
        "position": position,
        "projection": inner.input_projection,
        **{f"encoder.{i}": layer for i, layer in enumerate(inner.encoder.layers)},
        **{f"decoder.{i}": layer for i, layer in enumerate(inner.decoder.layers)},
        "decoder": inner.decoder.layernorm,
    }


def _fusion_stages(model: PreTrainedModel) -> list[Any]:
    """The parts of the mask head that each have an adapter; none without a mask head."""
    return list(model.mask_head.fpn_stages) if isinstance(model, DetrForSegmentation) else []


def _array(output: Any) -> Array:
    """A module's output, or the first of its outputs, as an array."""
    tensor = output[0] if isinstance(output, tuple | list) else output
    return np.asarray(tensor.detach().numpy(), np.float32)


def attention_peaks(model: PreTrainedModel, pixels: Array) -> list[float]:
    """For every attention layer, the mean over queries of the largest weight of a key, times the number of keys.

    1 is uniform attention, which would hide errors in positions, projections and masks.
    """
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(pixel_values=torch.from_numpy(pixels), output_attentions=True)
    layers = (*output.encoder_attentions, *output.decoder_attentions, *output.cross_attentions)
    return [float(weights.max(-1).values.mean()) * weights.shape[-1] for weights in layers]
