"""From a file of weights, in whatever naming, to canonical tensors that fit their config.

Canonical names are Hugging Face's without their prefixes, and torchvision's for the backbone:
`backbone.layer1.0.conv1.weight`, `encoder.layers.0.self_attn.q_proj.weight`, `bbox_predictor.layers.2.bias`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.files import read_weights, weights_file
from detr_onnx.checkpoint.naming import PACKED_PARTS, Naming, detect_naming, without_wrappers
from detr_onnx.checkpoint.naming_tables import IGNORED_LEAVES, KNOWN_EXTRAS, MASK_HEAD_ROOTS, ROOTS
from detr_onnx.checkpoint.safetensors import Tensors
from detr_onnx.errors import CheckpointError
from detr_onnx.json_input import read_object
from detr_onnx.network.config import (
    ASSUMED_HEADS,
    DetrConfig,
    check_sizes,
    config_from_huggingface,
    config_from_shapes,
)
from detr_onnx.network.segmentation import ADAPTERS, mask_head_channels

Array = NDArray[np.float32]
Shape = tuple[int, ...]

PROBLEMS_SHOWN = 12

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model: its config, and its tensors under their canonical names, in canonical order."""

    config: DetrConfig
    tensors: Mapping[str, Array]


def load_checkpoint(path: Path, config: DetrConfig | None = None) -> Checkpoint:
    """The checkpoint in a directory of Hugging Face's layout, or in one .safetensors file.

    The config is the one given, else `config.json` beside the weights, else what the tensors' shapes tell.

    Raises:
        CheckpointError: names every missing, unexpected, misshapen and non-finite tensor in one message.
    """
    file = weights_file(path)
    config = config or read_config(file.parent)
    return checkpoint_of(read_weights(file), config, str(file))


def checkpoint_of(tensors: Tensors, config: DetrConfig | None, source: str) -> Checkpoint:
    """The checkpoint of tensors in any known naming.

    Args:
        tensors: by the file's own names. Heads for other tasks are left out, as transformers does.
        config: None to derive it from the tensors' shapes.
        source: what to call the tensors in an error.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    tensors = _without_extras(tensors, source)
    naming = detect_naming(tensors)
    config = config or _config_of(tensors, naming, source)
    if any(without_wrappers(name).partition(".")[0] in MASK_HEAD_ROOTS for name in tensors):
        config = replace(config, masks=True)
        check_sizes(config, source)
    expected = expected_shapes(config)
    problems = [*_misfits(tensors, _shapes_in_file(expected, naming)), *_not_finite(tensors)]
    if problems:
        more = f"; and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise CheckpointError(
            f"{source} does not fit its config ({naming.title})",
            found="; ".join(problems[:PROBLEMS_SHOWN]) + more,
            expected=f"{len(expected)} tensors of the config's shapes, all finite",
            remedy="check that config.json and the weights belong together",
        )
    found = {name: tensors[naming.name_in_file(name)] for name in expected}
    return Checkpoint(config, {name: _unpacked(name, found[name], shape) for name, shape in expected.items()})


def _without_extras(tensors: Tensors, source: str) -> Tensors:
    """The tensors without counters of training and without heads for other tasks."""
    roots = {name: without_wrappers(name).partition(".")[0] for name in tensors}
    extras = [name for name, root in roots.items() if root not in ROOTS]
    unknown = [name for name in extras if roots[name] not in KNOWN_EXTRAS]
    if unknown and len(unknown) < len(tensors):
        logger.warning(
            "%s: %d tensors are not part of a DETR detector and are not used: %s",
            source, len(unknown), ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else ""),
        )  # fmt: skip
    return {name: t for name, t in tensors.items() if roots[name] in ROOTS and not name.endswith(IGNORED_LEAVES)}


def _config_of(tensors: Tensors, naming: Naming, source: str) -> DetrConfig:
    """The config that the tensors' shapes tell."""
    shapes = {naming.canonical_name(name): tensor.shape for name, tensor in tensors.items()}
    note_assumptions(source)
    return config_from_shapes({name: shape for name, shape in shapes.items() if name}, source)


def note_assumptions(source: str) -> None:
    """Logs what is assumed of a model without a config, because no tensor's shape tells it."""
    logger.warning("%s has no config.json: assuming %d attention heads and no dilation", source, ASSUMED_HEADS)


def _unpacked(name: str, tensor: Array, shape: Shape) -> Array:
    """The tensor itself, or its third of a packed projection, which has three times the rows."""
    if tensor.shape == shape:
        return tensor
    return np.split(tensor, 3)[PACKED_PARTS.index(name.split(".")[-2])]


def read_config(directory: Path) -> DetrConfig | None:
    """The config in a directory of Hugging Face's layout, or None when there is no config.json."""
    file = directory / "config.json"
    return config_from_huggingface(read_object(file), str(file)) if file.exists() else None


def expected_shapes(config: DetrConfig) -> dict[str, Shape]:
    """Canonical name -> shape of every tensor that a model of this config has."""
    D = config.d_model
    shapes = dict(_backbone_shapes(config))
    shapes |= {"input_projection.weight": (D, config.backbone.widths[-1], 1, 1), "input_projection.bias": (D,)}
    for i in range(config.encoder_layers):
        shapes |= _layer_shapes(f"encoder.layers.{i}", ("self_attn",), D, config.encoder_ffn)
    for i in range(config.decoder_layers):
        shapes |= _layer_shapes(f"decoder.layers.{i}", ("self_attn", "encoder_attn"), D, config.decoder_ffn)
    if config.pre_norm:
        shapes |= _norm("encoder.layernorm", D)
    shapes |= _norm("decoder.layernorm", D)
    shapes["query_position_embeddings.weight"] = (config.queries, D)
    shapes |= _linear("class_labels_classifier", D, len(config.labels) + 1)
    for i, width in enumerate((D, D, 4)):
        shapes |= _linear(f"bbox_predictor.layers.{i}", D, width)
    return shapes | (_mask_head_shapes(config) if config.masks else {})


def _linear(module: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{module}.weight": (outputs, inputs), f"{module}.bias": (outputs,)}


def _norm(module: str, width: int) -> dict[str, Shape]:
    return {f"{module}.weight": (width,), f"{module}.bias": (width,)}


def _layer_shapes(layer: str, attentions: tuple[str, ...], D: int, ffn: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for attention in attentions:
        for projection in (*PACKED_PARTS, "out_proj"):
            shapes |= _linear(f"{layer}.{attention}.{projection}", D, D)
        shapes |= _norm(f"{layer}.{attention}_layer_norm", D)
    return (
        shapes
        | _linear(f"{layer}.fc1", D, ffn)
        | _linear(f"{layer}.fc2", ffn, D)
        | _norm(f"{layer}.final_layer_norm", D)
    )


def _mask_head_shapes(config: DetrConfig) -> dict[str, Shape]:
    D, channels = config.d_model, mask_head_channels(config)
    shapes = _linear("bbox_attention.q_linear", D, D) | _linear("bbox_attention.k_linear", D, D)
    for k, (inputs, outputs) in enumerate(zip((channels[0], *channels), channels, strict=False), start=1):
        shapes[f"mask_head.lay{k}.weight"], shapes[f"mask_head.lay{k}.bias"] = (outputs, inputs, 3, 3), (outputs,)
        shapes |= _norm(f"mask_head.gn{k}", outputs)
    for k, outputs in enumerate(channels[1:4], start=1):
        inputs = config.backbone.widths[ADAPTERS - k]
        shapes[f"mask_head.adapter{k}.weight"] = (outputs, inputs, 1, 1)
        shapes[f"mask_head.adapter{k}.bias"] = (outputs,)
    return shapes | {"mask_head.out_lay.weight": (1, channels[4], 3, 3), "mask_head.out_lay.bias": (1,)}


def _backbone_shapes(config: DetrConfig) -> Iterator[tuple[str, Shape]]:
    resnet = config.backbone
    yield from _conv_shapes("backbone.conv1", "backbone.bn1", 3, resnet.stem_width, 7)
    inputs = resnet.stem_width
    for s, (depth, width) in enumerate(zip(resnet.depths, resnet.widths, strict=True), start=1):
        for i in range(depth):
            block = f"backbone.layer{s}.{i}"
            for k, (channels, outputs, kernel) in enumerate(_convs(resnet.block, inputs, width), start=1):
                yield from _conv_shapes(f"{block}.conv{k}", f"{block}.bn{k}", channels, outputs, kernel)
            if i == 0 and (s > 1 or inputs != width):
                yield from _conv_shapes(f"{block}.downsample.0", f"{block}.downsample.1", inputs, width, 1)
            inputs = width


def _convs(block: str, inputs: int, width: int) -> list[tuple[int, int, int]]:
    """Channels in, channels out and kernel of each convolution of a block."""
    if block == "basic":
        return [(inputs, width, 3), (width, width, 3)]
    return [(inputs, width // 4, 1), (width // 4, width // 4, 3), (width // 4, width, 1)]


def _conv_shapes(conv: str, norm: str, inputs: int, outputs: int, kernel: int) -> Iterator[tuple[str, Shape]]:
    yield f"{conv}.weight", (outputs, inputs, kernel, kernel)
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{norm}.{leaf}", (outputs,)


def _shapes_in_file(expected: Mapping[str, Shape], naming: Naming) -> dict[str, Shape]:
    """The expected shapes by the file's own names; the rows of packed q, k and v are added up."""
    shapes: dict[str, Shape] = {}
    for name, shape in expected.items():
        in_file = naming.name_in_file(name)
        rows = shapes[in_file][0] if in_file in shapes else 0
        shapes[in_file] = (rows + shape[0], *shape[1:])
    return shapes


def _misfits(tensors: Tensors, expected: Mapping[str, Shape]) -> list[str]:
    """What is missing, of another shape, not a float, or unexpected."""
    present = [(name, tensors[name], shape) for name, shape in expected.items() if name in tensors]
    return [
        *(f"{name} missing" for name in expected if name not in tensors),
        *(f"{name} of shape {list(t.shape)}, not {list(shape)}" for name, t, shape in present if t.shape != shape),
        *(f"{name} of {t.dtype}, not floats" for name, t, _ in present if t.dtype.kind != "f"),
        *(f"{name} unexpected" for name in tensors if name not in expected),
    ]


def _not_finite(tensors: Tensors) -> list[str]:
    """Tensors with a NaN or an infinity. The sum shows it in one pass; only suspects are looked at again."""
    with np.errstate(all="ignore"):
        suspects = {name: tensor for name, tensor in tensors.items() if not np.isfinite(tensor.sum())}
    counts = {name: int(np.count_nonzero(~np.isfinite(tensor))) for name, tensor in suspects.items()}
    return [f"{name} with {count} values that are NaN or infinite" for name, count in counts.items() if count]
