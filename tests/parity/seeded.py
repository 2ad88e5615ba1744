"""Weights for a DETR of any config, from a seed: numbers that reveal an error in a model.

With small random weights attention is uniform, batch norm is the identity, and a model with a norm in the wrong place
still agrees to five digits. With others every token of the memory ends up the same, every query gives the same, and a
model that ignores its queries still agrees. So here batch norm's statistics differ from 0 and 1, projections are large
enough that attention is not uniform, and weights after a ReLU sum to zero, so that only differences matter: half of the
variation of the outputs is between queries, through six layers or a hundred. `numpy.random.RandomState` is used because
its streams never change.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.naming import Naming
from detr_onnx.checkpoint.naming_tables import BACKBONES, TRANSFORMERS
from detr_onnx.checkpoint.safetensors import write_safetensors
from detr_onnx.checkpoint.tensor_shapes import expected_shapes
from detr_onnx.network.config import RESNETS, WIDTHS, DetrConfig, ResNetConfig

Array = NDArray[np.float32]

RESIDUAL_GAIN = 0.35  # of the last batch norm of a block, so that values stay finite through a hundred layers
GAINS = {  # a weight's standard deviation times √(fan-in), by the end of its module's name; the first that matches
    "q_proj": 1.8,  # so that attention scores spread by several units
    "k_proj": 1.8,
    "q_linear": 1.8,
    "k_linear": 1.8,
    "self_attn.out_proj": 0.3,  # self-attention amplifies what tokens have in common, not their differences
    "encoder_attn.out_proj": 2.5,
    "fc2": 1.0,
    "input_projection": 3.0,
    "class_labels_classifier": 3.0,
    "": 1.4,
}
ORIGINAL, HF_TIMM, HF_NATIVE, V5_TIMM, V5_NATIVE = (
    Naming("", BACKBONES[b], TRANSFORMERS[t]) for b, t in ((0, 0), (1, 1), (2, 1), (3, 2), (4, 2))
)
PANOPTIC_V5 = replace(V5_NATIVE, prefix="detr.")
SPELLINGS = {
    "original": ORIGINAL,
    "huggingface-timm": HF_TIMM,
    "huggingface-native": HF_NATIVE,
    "transformers5-timm": V5_TIMM,
    "transformers5-native": V5_NATIVE,
}

# Small models that run in milliseconds, one for each kind of DETR; and the published sizes.
_SMALL = DetrConfig(
    ResNetConfig("bottleneck", (1, 2, 1, 1), (32, 48, 64, 96), 16), 64, 2, 2, 4, 2, 128, 96, 13, tuple("abcdefg")
)
_BASIC = ResNetConfig("basic", (1, 2, 2), (24, 48, 96), 16)
CONFIGS = {
    "small": _SMALL,
    "small-dc5": replace(_SMALL, backbone=ResNetConfig("bottleneck", (1, 1, 1, 3), (32, 48, 64, 96), 16, True)),
    "small-basic-dc5": replace(_SMALL, backbone=ResNetConfig("basic", (1, 1, 1, 3), (16, 32, 48, 64), 16, True)),
    "basic-three-stages": replace(_SMALL, backbone=_BASIC, encoder_heads=8, labels=("cat",)),
    "small-table-transformer": replace(
        _SMALL, backbone=ResNetConfig("basic", (2, 2, 2, 2), (24, 32, 48, 64), 24), pre_norm=True
    ),
    "small-auxiliary-loss": replace(_SMALL, decoder_layers=3, norm_each_layer=True),
    "small-panoptic": replace(_SMALL, encoder_heads=8, masks=True),
    "three-stages-panoptic": replace(_SMALL, backbone=_BASIC, encoder_heads=8, masks=True),
    "small-panoptic-dc5": replace(
        _SMALL,
        backbone=ResNetConfig("bottleneck", (1, 1, 1, 3), (32, 48, 64, 96), 16, True),
        encoder_heads=8,
        masks=True,
    ),
    "detr-resnet-50": DetrConfig(),
    "detr-resnet-50-dc5": DetrConfig(ResNetConfig(dilation=True)),
    "detr-resnet-101": DetrConfig(ResNetConfig(depths=(3, 4, 23, 3))),
    "detr-resnet-50-panoptic": DetrConfig(labels=tuple(f"LABEL_{i}" for i in range(250)), masks=True),
    "detr-resnet-50-dc5-panoptic": DetrConfig(
        ResNetConfig(dilation=True), labels=tuple(f"LABEL_{i}" for i in range(250)), masks=True
    ),
    "table-transformer": DetrConfig(
        ResNetConfig("basic", (2, 2, 2, 2), (64, 128, 256, 512)),
        queries=15,
        labels=("table", "table rotated"),
        pre_norm=True,
    ),
}


def seeded_tensors(config: DetrConfig, seed: int) -> dict[str, Array]:
    """Canonical name -> tensor, for every tensor that a model of this config has."""
    random = np.random.RandomState(seed)
    last = "bn3" if config.backbone.block == "bottleneck" else "bn2"
    return {name: _tensor(random, name, shape, last) for name, shape in expected_shapes(config).items()}


def _tensor(random: np.random.RandomState, name: str, shape: tuple[int, ...], last_norm: str) -> Array:
    module, _, leaf = name.rpartition(".")
    normal = random.standard_normal(shape)
    if leaf == "running_mean":
        values = 0.3 * normal
    elif leaf == "running_var":
        values = np.exp(0.4 * normal)  # 0.3 … 3
    elif leaf == "bias":
        values = normal * (0.2 if module.startswith("backbone.") else 0.1)
    elif len(shape) == 1:  # weights of norms
        values = (1 + 0.2 * normal) * (RESIDUAL_GAIN if module.endswith(last_norm) else 1)
    elif "query_position" in name:
        values = normal
    else:
        values = _weight(module, normal)
    return np.asarray(values, np.float32)


def _weight(module: str, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of a convolution or linear layer, [out, ...], from normal numbers of its shape."""
    inputs = tuple(range(1, normal.ndim))
    gain = 1.2 if module.startswith("backbone.") else next(g for end, g in GAINS.items() if module.endswith(end))
    if normal.ndim == 4 or module.endswith("fc2") or module.startswith("bbox_predictor"):  # what follows a ReLU
        normal = normal - normal.mean(axis=inputs, keepdims=True)
    return normal * (gain / math.sqrt(math.prod(normal.shape[1:])))


def spelled(tensors: Mapping[str, Array], naming: Naming) -> dict[str, Array]:
    """The same tensors in the names of a naming; q, k and v stacked in this order where the naming packs them."""
    named: dict[str, list[Array]] = {}
    for name, tensor in tensors.items():  # in canonical order, where q comes before k before v
        named.setdefault(naming.name_in_file(name), []).append(tensor)
    return {name: np.concatenate(parts) if len(parts) > 1 else parts[0] for name, parts in named.items()}


def huggingface_config(config: DetrConfig) -> dict[str, Any]:
    """The `config.json` of a model of this config: native backbone, or timm's where it is dilated."""
    return {
        "model_type": "table-transformer" if config.pre_norm else "detr",
        "architectures": [_architecture(config)],
        "use_timm_backbone": config.backbone.dilation,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": _backbone(config),
        "dilation": config.backbone.dilation,
        "d_model": config.d_model,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "encoder_attention_heads": config.encoder_heads,
        "decoder_attention_heads": config.decoder_heads,
        "encoder_ffn_dim": config.encoder_ffn,
        "decoder_ffn_dim": config.decoder_ffn,
        "num_queries": config.queries,
        "auxiliary_loss": config.norm_each_layer,
        "id2label": {str(i): name for i, name in enumerate(config.labels)},
        "label2id": {name: i for i, name in enumerate(config.labels)},
    }


def _architecture(config: DetrConfig) -> str:
    """The name of transformers' class."""
    if config.pre_norm:
        return "TableTransformerForObjectDetection"
    return "DetrForSegmentation" if config.masks else "DetrForObjectDetection"


def _backbone(config: DetrConfig) -> dict[str, Any]:
    if config.backbone.dilation:
        return timm_backbone(config.backbone)
    return native_backbone(config.backbone, all_stages=config.masks)


def native_backbone(resnet: ResNetConfig, all_stages: bool = False) -> dict[str, Any]:
    """The `backbone_config` of transformers' own ResNet, which has no field for dilation."""
    stages = range(1, 1 + len(resnet.depths))
    return {
        "model_type": "resnet",
        "layer_type": resnet.block,
        "depths": list(resnet.depths),
        "hidden_sizes": list(resnet.widths),
        "embedding_size": resnet.stem_width,
        "out_features": [f"stage{s}" for s in stages][0 if all_stages else -1 :],
    }


def timm_backbone(resnet: ResNetConfig) -> dict[str, Any]:
    """The `backbone_config` of timm's ResNet, as transformers 5 writes it; only published ResNets have one.

    Raises:
        ValueError: for other depths or widths.
    """
    for name, (depths, block) in RESNETS.items():
        if (depths, block, WIDTHS[block], 64) == (resnet.depths, resnet.block, resnet.widths, resnet.stem_width):
            return {
                "model_type": "timm_backbone",
                "backbone": name,
                "out_indices": [1, 2, 3, 4],
                "output_stride": 16 if resnet.dilation else 32,
            }
    raise ValueError(f"{resnet} has no name for a config.json")


def write_checkpoint(directory: Path, config: DetrConfig, seed: int, dialect: str = "huggingface-native") -> Path:
    """A directory in Hugging Face's layout with a seeded model of this config; the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(huggingface_config(config), indent=1))
    naming = replace(SPELLINGS[dialect], prefix="detr." if config.masks else "")
    write_safetensors(directory / "model.safetensors", spelled(seeded_tensors(config, seed), naming))
    return directory


def seeded_pixels(seed: int, *shape: int) -> Array:
    """[B,3,H,W] pixels with structure at every scale, about as large as those of a normalized photograph."""
    random = np.random.RandomState(seed)
    *batch, H, W = shape
    pixels = 0.3 * random.standard_normal(shape)
    for period in (7, 31, 120):
        waves = np.sin(np.arange(H)[:, None] / period + np.arange(W) / (0.7 * period))
        pixels += random.standard_normal((*batch, 1, 1)) * waves
    return np.asarray(pixels, np.float32)


def padded_batch(pixels: Array, sizes_hw: Sequence[tuple[int, int]]) -> tuple[Array, NDArray[np.bool_]]:
    """[B,3,H,W] pixels with zeros outside each image's size, and the mask [B,H,W] of the sizes."""
    mask = np.zeros((len(pixels), *pixels.shape[2:]), bool)
    for row, (height, width) in zip(mask, sizes_hw, strict=True):
        row[:height, :width] = True
    return pixels * mask[:, None], mask
