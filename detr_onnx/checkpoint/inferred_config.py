"""The config of a model without a `config.json`, as far as the shapes of its tensors tell it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from detr_onnx.errors import CheckpointError
from detr_onnx.labels import COCO_LABELS, numbered_labels
from detr_onnx.network.config import LARGEST, DetrConfig, ResNetConfig, check_sizes, unsupported

ASSUMED_HEADS = 8  # no tensor's shape tells it


def config_from_shapes(
    shapes: Mapping[str, tuple[int, ...]], source: str = "the file", dilation: bool = False
) -> DetrConfig:
    """The config of a model whose tensors have these canonical names and shapes.

    What no shape tells is assumed: 8 attention heads, COCO's names when there are 91 classes, else LABEL_0, LABEL_1, …

    Args:
        shapes: by canonical name.
        source: what to call the tensors in an error.
        dilation: whether the last stage is dilated (DC5), which no shape tells.

    Raises:
        CheckpointError: when the tensors that tell the config are missing.
    """
    required = {"backbone.conv1.weight": 4, "query_position_embeddings.weight": 2, "class_labels_classifier.weight": 2,
               "encoder.layers.0.fc1.weight": 2, "decoder.layers.0.fc1.weight": 2}  # fmt: skip
    absent = [name for name, axes in required.items() if len(shapes.get(name, ())) != axes]
    if absent:
        raise CheckpointError(
            f"the tensors of {source} do not tell what model they are",
            found=f"no {', '.join(absent)}",
            expected="a DETR's",
            remedy="put its config.json beside the file",
        )
    _check_axes(shapes, source)
    classes = shapes["class_labels_classifier.weight"][0] - 1
    config = DetrConfig(
        backbone=replace(_backbone_from_shapes(shapes, source), dilation=dilation),
        d_model=shapes["query_position_embeddings.weight"][1],
        encoder_layers=_count(shapes, r"encoder\.layers\.(\d+)\."),
        decoder_layers=_count(shapes, r"decoder\.layers\.(\d+)\."),
        encoder_heads=ASSUMED_HEADS,
        decoder_heads=ASSUMED_HEADS,
        encoder_ffn=shapes["encoder.layers.0.fc1.weight"][0],
        decoder_ffn=shapes["decoder.layers.0.fc1.weight"][0],
        queries=shapes["query_position_embeddings.weight"][0],
        labels=COCO_LABELS if classes == len(COCO_LABELS) else numbered_labels(classes),
        pre_norm="encoder.layernorm.weight" in shapes,
        masks="mask_head.lay1.weight" in shapes,
    )
    check_sizes(config, source)
    return config


def _check_axes(shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Raises CheckpointError for an axis that no DETR has: the shape of an empty tensor may say anything."""
    wrong = [name for name, shape in shapes.items() if not all(1 <= length <= LARGEST for length in shape)]
    if wrong:
        raise CheckpointError(
            f"the tensors of {source} are not a DETR's",
            found=f"{wrong[0]} of shape {list(shapes[wrong[0]])}",
            expected=f"axes from 1 to {LARGEST}",
            remedy="put its config.json beside the file",
        )


def _backbone_from_shapes(shapes: Mapping[str, tuple[int, ...]], source: str) -> ResNetConfig:
    """The ResNet that tensors of these names and shapes belong to."""
    block = "bottleneck" if "backbone.layer1.0.conv3.weight" in shapes else "basic"
    last_conv = "conv3" if block == "bottleneck" else "conv2"
    stages = range(1, 1 + _count(shapes, r"backbone\.layer(\d+)\."))
    widths = tuple((*shapes.get(f"backbone.layer{s}.0.{last_conv}.weight", ()), 0)[0] for s in stages)
    if len(stages) not in (3, 4):
        raise unsupported(source, "backbone", f"{len(stages)} stages", "a ResNet of three or four stages")
    depths = tuple(_count(shapes, rf"backbone\.layer{s}\.(\d+)\.") for s in stages)
    return ResNetConfig(block, depths, widths, shapes["backbone.conv1.weight"][0])


def _count(names: Iterable[str], pattern: str) -> int:
    """How many different numbers the group of `pattern` matches; a gap shows up later, as a missing tensor."""
    return len({match.group(1) for name in names if (match := re.match(pattern, name))})
