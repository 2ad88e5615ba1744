"""The config of a DETR: the numbers in which one model differs from another, each with its source.

The defaults are those of `facebook/detr-resnet-50`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
LARGEST = 65536  # of any number in a config: sixteen times what any DETR has
MOST_STAGES = 8
MOST_LAYERS = 256  # of an encoder, a decoder or a stage; ResNet-152 has 36 blocks in a stage
INTEGER_FIELDS = (
    "d_model", "encoder_layers", "decoder_layers", "encoder_heads", "decoder_heads", "encoder_ffn", "decoder_ffn",
    "queries",
)  # fmt: skip


@dataclass(frozen=True)
class ResNetConfig:
    """A ResNet of three or four stages.

    Attributes:
        block: "bottleneck" (1x1, 3x3, 1x1) or "basic" (3x3, 3x3).
        depths: blocks of each stage.
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
        encoder_heads, decoder_heads: attention heads of each layer; they divide d_model.
        encoder_ffn, decoder_ffn: width of the hidden layer of the feed-forward networks.
        queries: object queries, the largest number of detections in an image.
        labels: names of the classes, by id; the class head has one logit more, "no object".
        pre_norm: True for Table Transformer: layer norm before each sub-layer, and one more after the encoder.
        masks: True for panoptic models, which have a mask head.
        norm_each_layer: True for transformers' `auxiliary_loss`: the decoder's layer norm also follows each layer.
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
    norm_each_layer: bool = False

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
            raise CheckpointError(
                f"{source} is damaged", found="no backbone or no labels", expected="the fields of a config"
            )
        if not 1 <= len(labels) <= LARGEST or not all(map(is_text, labels)):
            raise CheckpointError(f"{source} is damaged", found=repr(labels)[:60], expected="a list of class names")
        largest = {"encoder_layers": MOST_LAYERS, "decoder_layers": MOST_LAYERS}
        numbers = {
            name: positive_integer(fields, name, 0, source, largest.get(name, LARGEST)) for name in INTEGER_FIELDS
        }
        depths, widths = (positive_integers(backbone, name, (), source) for name in ("depths", "widths"))
        block, stem_width = backbone.get("block"), positive_integer(backbone, "stem_width", 0, source)
        resnet = ResNetConfig(str(block), depths, widths, stem_width, backbone.get("dilation") is True)
        if block not in BLOCKS or len(depths) not in (3, 4) or len(depths) != len(widths):
            raise CheckpointError(f"{source} is damaged", found=repr(dict(backbone))[:120], expected="a ResNet")
        config = cls(
            backbone=resnet,
            labels=tuple(labels),
            pre_norm=fields.get("pre_norm") is True,
            masks=fields.get("masks") is True,
            norm_each_layer=fields.get("norm_each_layer") is True,
            **numbers,
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


def positive_integer(fields: Mapping[str, Any], name: str, default: int, source: str, largest: int = LARGEST) -> int:
    """The field as a positive integer."""
    value = fields.get(name, default)
    if type(value) is not int or not 1 <= value <= largest:
        raise CheckpointError(
            f"{source}: {name} is wrong", found=repr(value)[:60], expected=f"an integer from 1 to {largest}"
        )
    return value


def positive_integers(fields: Mapping[str, Any], name: str, default: tuple[int, ...], source: str) -> tuple[int, ...]:
    """The field as a list of positive integers, one for each stage."""
    values = fields.get(name, default)
    if not isinstance(values, list | tuple) or len(values) > MOST_STAGES:
        raise CheckpointError(
            f"{source}: {name} is wrong", found=repr(values)[:60], expected="a list with a number for each stage"
        )
    largest = MOST_LAYERS if name == "depths" else LARGEST
    return tuple(positive_integer({name: value}, name, 1, source, largest) for value in values)


def unsupported(source: str, what: str, found: str, expected: str) -> CheckpointError:
    """The error for a model that is a DETR, but of a kind that this package does not run."""
    return CheckpointError(
        f"{source} has a {what} that detr-onnx cannot run", found=found, expected=expected, remedy="use another model"
    )
