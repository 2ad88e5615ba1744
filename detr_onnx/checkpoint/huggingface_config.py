"""A Hugging Face `config.json` as a `DetrConfig`, in both generations of its fields."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from detr_onnx.errors import CheckpointError
from detr_onnx.labels import numbered_labels
from detr_onnx.network.config import (
    BLOCKS,
    LARGEST,
    MOST_LAYERS,
    RESNETS,
    WIDTHS,
    DetrConfig,
    ResNetConfig,
    check_sizes,
    positive_integer,
    positive_integers,
    unsupported,
)
from detr_onnx.text import is_text

MODEL_TYPES = ("detr", "table-transformer")

logger = logging.getLogger(__name__)


def config_from_huggingface(
    fields: Mapping[str, Any], source: str, labels: tuple[str, ...] | None = None
) -> DetrConfig:
    """The config that a Hugging Face `config.json` describes.

    Args:
        fields: the parsed file; absent fields take transformers' defaults, which are facebook/detr-resnet-50's.
        source: what to call the file in an error.
        labels: the caller's names of the classes. The file's then only tell how many classes there are, if they do.

    Raises:
        CheckpointError: names every field that no DETR has, or that this package cannot run.
    """
    problems = _problems(fields)
    if problems:
        raise CheckpointError(
            f"{source} does not describe a model that detr-onnx can run",
            found="; ".join(problems),
            expected=f"model_type {' or '.join(MODEL_TYPES)} with a ResNet backbone, sine positions and ReLU",
            remedy="use a DETR checkpoint",
        )
    config = DetrConfig(
        backbone=_backbone(fields, source),
        d_model=positive_integer(fields, "d_model", 256, source),
        encoder_layers=positive_integer(fields, "encoder_layers", 6, source, MOST_LAYERS),
        decoder_layers=positive_integer(fields, "decoder_layers", 6, source, MOST_LAYERS),
        encoder_heads=positive_integer(fields, "encoder_attention_heads", 8, source),
        decoder_heads=positive_integer(fields, "decoder_attention_heads", 8, source),
        encoder_ffn=positive_integer(fields, "encoder_ffn_dim", 2048, source),
        decoder_ffn=positive_integer(fields, "decoder_ffn_dim", 2048, source),
        queries=positive_integer(fields, "num_queries", 100, source),
        labels=_labels(fields, source) if labels is None else _replaced_labels(fields, source, labels),
        pre_norm=fields["model_type"] == "table-transformer",
        masks=fields.get("architectures") == ["DetrForSegmentation"],
        norm_each_layer=bool(fields.get("auxiliary_loss")),  # in transformers it changes the network, not only its loss
    )
    check_sizes(config, source)
    return config


def _problems(fields: Mapping[str, Any]) -> list[str]:
    """Fields whose values this package does not support, each as `name value`."""
    supported: dict[str, tuple[Any, ...]] = {
        "position_embedding_type": ("sine",),
        "activation_function": ("relu",),
        "num_channels": (3,),
        "scale_embedding": (False,),
    }
    wrong = [
        f"{name} {fields[name]!r}" for name, values in supported.items() if fields.get(name, values[0]) not in values
    ]
    if fields.get("model_type") not in MODEL_TYPES:
        wrong.insert(0, f"model_type {fields.get('model_type')!r}")
    return wrong


def _labels(fields: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Names by id, as transformers reads them: as many classes as `id2label` has entries, whatever their ids are.

    transformers leaves the table out when the names are LABEL_0, LABEL_1. If there is a `num_labels` that contradicts
    it, that one counts, and the names are dropped (transformers 5; 4 dropped the number). Keys are strings in JSON.
    """
    names, count = fields.get("id2label"), _num_labels(fields, source)
    if names is None:
        return numbered_labels(count or 2)  # transformers' default
    try:
        by_id = {int(key): name for key, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        by_id = {}
    if not by_id or len(by_id) > LARGEST:
        raise CheckpointError(
            f"{source}: id2label does not number the classes",
            found=f"keys {', '.join(sorted(map(str, names))[:5])} …"
            if isinstance(names, Mapping)
            else repr(names)[:60],
            expected='an object of names by number: {"0": "cat", "1": "dog"}',
        )
    for key, name in by_id.items():
        if type(name) not in (int, float) and not is_text(name):
            raise CheckpointError(
                f"{source}: id2label does not name class {key}", found=repr(name)[:60], expected="a name"
            )
    if count not in (None, len(by_id)):
        logger.warning(
            "%s: num_labels %s contradicts id2label, which has %d names: the classes are called LABEL_…",
            source, count, len(by_id),
        )  # fmt: skip
        return numbered_labels(count)
    if set(by_id) != set(range(len(by_id))):
        logger.warning(
            "%s: id2label has %d classes with ids from %d to %d: classes without a name are called LABEL_…",
            source, len(by_id), min(by_id), max(by_id),
        )  # fmt: skip
    return tuple(str(by_id.get(i, f"LABEL_{i}")) for i in range(len(by_id)))


def _num_labels(fields: Mapping[str, Any], source: str) -> int | None:
    """The number of classes, if the file states it by itself."""
    return None if fields.get("num_labels") is None else positive_integer(fields, "num_labels", 2, source)


def _replaced_labels(fields: Mapping[str, Any], source: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    """As many names as the file has classes; the caller's if it does not tell how many."""
    names, classes = fields.get("id2label"), _num_labels(fields, source)
    if classes is None:
        classes = len(names) if isinstance(names, Mapping) and 0 < len(names) <= LARGEST else len(labels)
    return labels if classes == len(labels) else numbered_labels(classes)


def _backbone(fields: Mapping[str, Any], source: str) -> ResNetConfig:
    """The ResNet, from `backbone_config` or from the older fields `backbone`, `backbone_kwargs` and `dilation`."""
    nested = fields.get("backbone_config") or {}
    kind = nested.get("model_type", "timm_backbone") if isinstance(nested, Mapping) else repr(nested)[:60]
    if kind == "resnet":
        return _native_backbone(nested, source)
    if kind != "timm_backbone":
        raise unsupported(source, "backbone", f"model_type {kind!r}", "a ResNet, of timm or of transformers")
    older = fields.get("backbone_kwargs")
    named = {"backbone": fields.get("backbone"), **(older if isinstance(older, Mapping) else {}), **nested}
    return _timm_backbone(named, bool(fields.get("dilation", False)), source)


def _timm_backbone(nested: Mapping[str, Any], dilation: bool, source: str) -> ResNetConfig:
    """The ResNet of a timm name, up to the last of its `out_indices` (0 is the stem)."""
    name = re.sub(r"\..*", "", str(nested.get("backbone") or "resnet50"))  # "resnet50.a1_in1k" is a resnet50
    indices, stride = nested.get("out_indices") or [4], nested.get("output_stride") or (16 if dilation else 32)
    stages = max(i % 5 if type(i) is int else 0 for i in indices) if isinstance(indices, list | tuple) else 0
    if name not in RESNETS or stages not in (3, 4) or stride not in (16, 32) or (stages, stride) == (3, 16):
        raise unsupported(
            source,
            "backbone",
            f"{name!r} up to stage {stages} with output_stride {stride!r}",
            f"one of {', '.join(RESNETS)}, up to stage 3 or 4, with output_stride 32, or 16 in stage 4",
        )
    depths, block = RESNETS[name]
    return ResNetConfig(block, depths[:stages], WIDTHS[block][:stages], 64, stride == 16)


def _native_backbone(nested: Mapping[str, Any], source: str) -> ResNetConfig:
    """The ResNet of a `backbone_config` with model_type "resnet" (transformers' own implementation)."""
    depths = positive_integers(nested, "depths", (3, 4, 6, 3), source)
    widths = positive_integers(nested, "hidden_sizes", (256, 512, 1024, 2048), source)
    block = nested.get("layer_type", "bottleneck")
    stages = _last_stage(nested, len(depths))
    plain = {"hidden_act": "relu", "downsample_in_first_stage": False, "downsample_in_bottleneck": False}
    odd = [f"{name} {nested[name]!r}" for name, value in plain.items() if nested.get(name, value) != value]
    if block not in BLOCKS or stages not in (3, 4) or len(depths) < stages or len(widths) < stages or odd:
        facts = f"layer_type {block!r}, depths {list(depths)}, hidden_sizes {list(widths)}, up to stage {stages}"
        raise unsupported(
            source,
            "backbone_config",
            ", ".join([facts, *odd]),
            f"layer_type {' or '.join(BLOCKS)}, three or four stages, ReLU, strides in the 3x3 convolutions",
        )
    return ResNetConfig(
        block, depths[:stages], widths[:stages], positive_integer(nested, "embedding_size", 64, source), False
    )


def _last_stage(nested: Mapping[str, Any], stages: int) -> int:
    """The number of the last stage among `out_features`; 0 for a name that is not a stage's."""
    names = nested.get("out_features") or [f"stage{stages}"]
    last = str(names[-1]) if isinstance(names, list | tuple) else ""
    return int(last.removeprefix("stage")) if re.fullmatch(r"stage[0-9]", last) else 0
