"""The config of a DETR: the numbers in which one model differs from another, each with its source.

A config comes from a checkpoint's `config.json` (both generations of Hugging Face's fields) or, where there is none,
from the shapes of the tensors. The defaults are those of `facebook/detr-resnet-50`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from detr_onnx.errors import CheckpointError
from detr_onnx.labels import COCO_LABELS
from detr_onnx.text import is_text

# Depths of the four stages and the kind of block [He et al., 2015, table 1].
RESNETS: dict[str, tuple[tuple[int, ...], str]] = {
    "resnet18": ((2, 2, 2, 2), "basic"),
    "resnet34": ((3, 4, 6, 3), "basic"),
    "resnet50": ((3, 4, 6, 3), "bottleneck"),
    "resnet101": ((3, 4, 23, 3), "bottleneck"),
    "resnet152": ((3, 8, 36, 3), "bottleneck"),
}
BLOCKS = ("basic", "bottleneck")
WIDTHS = {"basic": (64, 128, 256, 512), "bottleneck": (256, 512, 1024, 2048)}
MODEL_TYPES = ("detr", "table-transformer")
LARGEST = 65536  # of any number in a config: sixteen times what any DETR has
MOST_STAGES = 8
MOST_LAYERS = 256  # of an encoder, a decoder or a stage; ResNet-152 has 36 blocks in a stage
ASSUMED_HEADS = 8  # no tensor's shape tells it

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResNetConfig:
    """A ResNet of three or four stages.

    Attributes:
        block: "bottleneck" (1x1, 3x3, 1x1) or "basic" (3x3, 3x3).
        depths: blocks a stage.
        widths: output channels of each stage.
        stem_width: output channels of the 7x7 convolution.
        dilation: True for DC5: the last stage keeps its resolution and dilates instead [DETR paper, section 4.1].
    """

    block: str = "bottleneck"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    stem_width: int = 64
    dilation: bool = False

    @property
    def stride(self) -> int:
        """Pixels between two cells of the last feature map: 32 with four stages, 16 with three or with dilation."""
        return int(2 ** (len(self.depths) + (0 if self.dilation else 1)))


@dataclass(frozen=True)
class DetrConfig:
    """One DETR.

    Attributes:
        backbone: the ResNet.
        d_model: width of a token.
        encoder_layers, decoder_layers: how many of each.
        encoder_heads, decoder_heads: attention heads a layer; they divide d_model.
        encoder_ffn, decoder_ffn: width of the hidden layer of the feed-forward networks.
        queries: object queries, the largest number of detections in an image.
        labels: names of the classes, by id; the class head has one logit more, "no object".
        pre_norm: True for Table Transformer: layer norm before each sub-layer, and one more after the encoder.
        masks: True for panoptic models, which have a mask head.
    """

    backbone: ResNetConfig = ResNetConfig()
    d_model: int = 256
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_heads: int = 8
    decoder_heads: int = 8
    encoder_ffn: int = 2048
    decoder_ffn: int = 2048
    queries: int = 100
    labels: tuple[str, ...] = COCO_LABELS
    pre_norm: bool = False
    masks: bool = False

    def to_fields(self) -> dict[str, Any]:
        """The fields, nested, as plain JSON values; `from_fields` is the way back."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any], source: str = "the config") -> DetrConfig:
        """The config whose `to_fields` these are.

        Raises:
            CheckpointError: the fields are not those of a config.
        """
        labels, backbone = fields.get("labels"), fields.get("backbone")
        if not isinstance(backbone, Mapping) or not isinstance(labels, list | tuple):
            raise CheckpointError(f"{source} is damaged", found="no backbone or no labels", expected="a written config")
        if not 1 <= len(labels) <= LARGEST or not all(map(is_text, labels)):
            raise CheckpointError(f"{source} is damaged", found=repr(labels)[:60], expected="a list of class names")
        largest = {"encoder_layers": MOST_LAYERS, "decoder_layers": MOST_LAYERS}
        numbers = {name: _whole(fields, name, 0, source, largest.get(name, LARGEST)) for name in _NUMBERS}
        depths, widths = (_wholes(backbone, name, (), source) for name in ("depths", "widths"))
        block, stem_width = backbone.get("block"), _whole(backbone, "stem_width", 0, source)
        resnet = ResNetConfig(str(block), depths, widths, stem_width, backbone.get("dilation") is True)
        if block not in BLOCKS or len(depths) not in (3, 4) or len(depths) != len(widths):
            raise CheckpointError(f"{source} is damaged", found=repr(dict(backbone))[:120], expected="a ResNet")
        pre_norm, masks = (fields.get(name) is True for name in ("pre_norm", "masks"))
        config = cls(backbone=resnet, labels=tuple(labels), pre_norm=pre_norm, masks=masks, **numbers)
        check_sizes(config, source)
        return config


_NUMBERS = ("d_model", "encoder_layers", "decoder_layers", "encoder_heads", "decoder_heads", "encoder_ffn",
            "decoder_ffn", "queries")  # fmt: skip


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
        d_model=_whole(fields, "d_model", 256, source),
        encoder_layers=_whole(fields, "encoder_layers", 6, source, MOST_LAYERS),
        decoder_layers=_whole(fields, "decoder_layers", 6, source, MOST_LAYERS),
        encoder_heads=_whole(fields, "encoder_attention_heads", 8, source),
        decoder_heads=_whole(fields, "decoder_attention_heads", 8, source),
        encoder_ffn=_whole(fields, "encoder_ffn_dim", 2048, source),
        decoder_ffn=_whole(fields, "decoder_ffn_dim", 2048, source),
        queries=_whole(fields, "num_queries", 100, source),
        labels=_labels(fields, source) if labels is None else _replaced_labels(fields, labels),
        pre_norm=fields["model_type"] == "table-transformer",
        masks=fields.get("architectures") == ["DetrForSegmentation"],
    )
    check_sizes(config, source)
    return config


def check_sizes(config: DetrConfig, source: str) -> None:
    """Raises CheckpointError if the numbers of a config do not fit each other."""
    heads = sorted({config.encoder_heads, config.decoder_heads})
    if config.d_model % 4 or any(config.d_model % n for n in heads):
        raise CheckpointError(
            f"{source} has a d_model that cannot be divided",
            found=f"d_model {config.d_model} with {' and '.join(str(n) for n in heads)} heads",
            expected="a multiple of 4 (sine and cosine of y and x) and of the number of heads",
            remedy="give the numbers of heads in a config.json beside the weights",
        )
    if config.masks and ((config.d_model + config.encoder_heads) % 8 or config.d_model % 16):
        raise CheckpointError(
            f"{source} has a mask head that detr-onnx cannot run",
            found=f"d_model {config.d_model}, {config.encoder_heads} encoder heads",
            expected="d_model a multiple of 16, d_model and heads together a multiple of 8",
        )


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


def _whole(fields: Mapping[str, Any], name: str, default: int, source: str, largest: int = LARGEST) -> int:
    """The field as a positive integer."""
    value = fields.get(name, default)
    if type(value) is not int or not 1 <= value <= largest:
        raise CheckpointError(
            f"{source}: {name} is wrong", found=repr(value)[:60], expected=f"an integer from 1 to {largest}"
        )
    return value


def _labels(fields: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Names by id, as transformers reads them: as many classes as `id2label` has entries, whatever their ids are.

    transformers leaves the table out when the names are LABEL_0, LABEL_1. Keys are strings in JSON.
    """
    names = fields.get("id2label")
    if names is None:
        count = {"num_labels": fields.get("num_labels") or 2}  # null means transformers' default
        return _numbered_labels(_whole(count, "num_labels", 2, source))
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
    if set(by_id) != set(range(len(by_id))):
        logger.warning(
            "%s: id2label has %d classes with ids from %d to %d: classes without a name are called LABEL_…",
            source, len(by_id), min(by_id), max(by_id),
        )  # fmt: skip
    return tuple(str(by_id.get(i, f"LABEL_{i}")) for i in range(len(by_id)))


def _replaced_labels(fields: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[str, ...]:
    """As many names as `id2label` has entries, whatever they are; the caller's if it is not a table."""
    names = fields.get("id2label")
    classes = len(names) if isinstance(names, Mapping) and 0 < len(names) <= LARGEST else len(labels)
    return labels if classes == len(labels) else _numbered_labels(classes)


def _numbered_labels(classes: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{i}" for i in range(classes))


def _backbone(fields: Mapping[str, Any], source: str) -> ResNetConfig:
    """The ResNet, from `backbone_config` or from the older fields `backbone`, `backbone_kwargs` and `dilation`."""
    nested = fields.get("backbone_config") or {}
    kind = nested.get("model_type", "timm_backbone") if isinstance(nested, Mapping) else repr(nested)[:60]
    if kind == "resnet":
        return _native_backbone(nested, source)
    if kind != "timm_backbone":
        raise _not_run_here(source, "backbone", f"model_type {kind!r}", "a ResNet, of timm or of transformers")
    older = fields.get("backbone_kwargs")
    named = {"backbone": fields.get("backbone"), **(older if isinstance(older, Mapping) else {}), **nested}
    return _timm_backbone(named, bool(fields.get("dilation", False)), source)


def _timm_backbone(nested: Mapping[str, Any], dilation: bool, source: str) -> ResNetConfig:
    """The ResNet of a timm name, up to the last of its `out_indices` (0 is the stem)."""
    name = re.sub(r"\..*", "", str(nested.get("backbone") or "resnet50"))  # "resnet50.a1_in1k" is a resnet50
    indices, stride = nested.get("out_indices") or [4], nested.get("output_stride") or (16 if dilation else 32)
    stages = max(i % 5 if type(i) is int else 0 for i in indices) if isinstance(indices, list | tuple) else 0
    if name not in RESNETS or stages not in (3, 4) or stride not in (16, 32) or (stages, stride) == (3, 16):
        raise _not_run_here(
            source,
            "backbone",
            f"{name!r} up to stage {stages} with output_stride {stride!r}",
            f"one of {', '.join(RESNETS)}, up to stage 3 or 4, with output_stride 32, or 16 in stage 4",
        )
    depths, block = RESNETS[name]
    return ResNetConfig(block, depths[:stages], WIDTHS[block][:stages], 64, stride == 16)


def _native_backbone(nested: Mapping[str, Any], source: str) -> ResNetConfig:
    """The ResNet of a `backbone_config` with model_type "resnet" (transformers' own implementation)."""
    depths = _wholes(nested, "depths", (3, 4, 6, 3), source)
    widths = _wholes(nested, "hidden_sizes", (256, 512, 1024, 2048), source)
    block = nested.get("layer_type", "bottleneck")
    stages = _last_stage(nested, len(depths))
    plain = {"hidden_act": "relu", "downsample_in_first_stage": False, "downsample_in_bottleneck": False}
    odd = [f"{name} {nested[name]!r}" for name, value in plain.items() if nested.get(name, value) != value]
    if block not in BLOCKS or stages not in (3, 4) or len(depths) < stages or len(widths) < stages or odd:
        facts = f"layer_type {block!r}, depths {list(depths)}, hidden_sizes {list(widths)}, up to stage {stages}"
        raise _not_run_here(
            source,
            "backbone_config",
            ", ".join([facts, *odd]),
            f"layer_type {' or '.join(BLOCKS)}, three or four stages, ReLU, strides in the 3x3 convolutions",
        )
    return ResNetConfig(block, depths[:stages], widths[:stages], _whole(nested, "embedding_size", 64, source), False)


def _wholes(fields: Mapping[str, Any], name: str, default: tuple[int, ...], source: str) -> tuple[int, ...]:
    """The field as a list of positive integers, one a stage."""
    values = fields.get(name, default)
    if not isinstance(values, list | tuple) or len(values) > MOST_STAGES:
        raise CheckpointError(f"{source}: {name} is wrong", found=repr(values)[:60], expected="a list, one a stage")
    largest = MOST_LAYERS if name == "depths" else LARGEST
    return tuple(_whole({name: value}, name, 1, source, largest) for value in values)


def _last_stage(nested: Mapping[str, Any], stages: int) -> int:
    """The number of the last stage among `out_features`; 0 for a name that is not a stage's."""
    names = nested.get("out_features") or [f"stage{stages}"]
    last = str(names[-1]) if isinstance(names, list | tuple) else ""
    return int(last.removeprefix("stage")) if re.fullmatch(r"stage[0-9]", last) else 0


def _not_run_here(source: str, what: str, found: str, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{source} has a {what} that detr-onnx cannot run", found=found, expected=expected, remedy="use another model"
    )


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
        labels=COCO_LABELS if classes == len(COCO_LABELS) else _numbered_labels(classes),
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
        raise _not_run_here(source, "backbone", f"{len(stages)} stages", "a ResNet of three or four stages")
    depths = tuple(_count(shapes, rf"backbone\.layer{s}\.(\d+)\.") for s in stages)
    return ResNetConfig(block, depths, widths, shapes["backbone.conv1.weight"][0])


def _count(names: Iterable[str], pattern: str) -> int:
    """How many different numbers the group of `pattern` matches; a gap shows up later, as a missing tensor."""
    return len({match.group(1) for name in names if (match := re.match(pattern, name))})
