"""From a file of weights, in whatever naming, to canonical tensors that fit their config.

Canonical names are Hugging Face's without their prefixes, and torchvision's for the backbone:
`backbone.layer1.0.conv1.weight`, `encoder.layers.0.self_attn.q_proj.weight`, `bbox_predictor.layers.2.bias`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.naming import PACKED_PARTS, Spelling, spelling_of
from detr_onnx.checkpoint.naming_tables import IGNORED_LEAVES, MASK_HEAD
from detr_onnx.checkpoint.safetensors import Tensors, read_safetensors
from detr_onnx.errors import CheckpointError
from detr_onnx.network.config import DetrConfig, config_from_huggingface, config_from_shapes

Array = NDArray[np.float32]
Shape = tuple[int, ...]

PROBLEMS_SHOWN = 12  # a message that scrolls away helps nobody
PICKLES = (".bin", ".pth", ".pt", ".ckpt")
CONVERT = "convert it with detr-onnx convert FILE -o DIRECTORY"


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was trained: its config, and its tensors under their canonical names, in canonical order."""

    config: DetrConfig
    tensors: Mapping[str, Array]


def load_checkpoint(path: Path, config: DetrConfig | None = None) -> Checkpoint:
    """The checkpoint in a directory of Hugging Face's layout, or in one .safetensors file.

    The config is the one given, or `config.json` beside the weights, or what the tensors' shapes tell.

    Raises:
        CheckpointError: every missing, unexpected, misshapen and non-finite tensor in one message.
    """
    file = weights_file(path)
    config = config or read_config(file.parent)
    return checkpoint_of(read_safetensors(file), config, str(file))


def checkpoint_of(tensors: Tensors, config: DetrConfig | None, source: str) -> Checkpoint:
    """The checkpoint of tensors that any dialect names; `source` is what to call them in an error.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    wanted = {n: t for n, t in tensors.items() if not n.endswith(IGNORED_LEAVES) and not n.startswith(MASK_HEAD)}
    spelling = spelling_of(wanted)
    config = config or _config_of(wanted, spelling, source)
    expected = expected_shapes(config)
    problems = [*_misfits(wanted, _shapes_in_file(expected, spelling)), *_not_finite(wanted)]
    if problems:
        more = f"; and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise CheckpointError(
            f"{source} does not fit its config ({spelling.title})",
            found="; ".join(problems[:PROBLEMS_SHOWN]) + more,
            expected=f"{len(expected)} tensors of the config's shapes, all finite",
            remedy="check that config.json and the weights belong together",
        )
    found = {name: wanted[spelling.spelled(name)] for name in expected}
    return Checkpoint(config, {name: _unpacked(name, found[name], shape) for name, shape in expected.items()})


def _config_of(tensors: Tensors, spelling: Spelling, source: str) -> DetrConfig:
    """The config that the tensors' shapes tell."""
    named = {spelling.canonical(name): tensor.shape for name, tensor in tensors.items()}
    return config_from_shapes({name: shape for name, shape in named.items() if name}, source)


def _unpacked(name: str, tensor: Array, shape: Shape) -> Array:
    """The tensor itself; of a packed projection, which has three times the rows, those that are asked for."""
    if tensor.shape == shape:
        return tensor
    return np.split(tensor, 3)[PACKED_PARTS.index(name.split(".")[-2])]


def weights_file(path: Path) -> Path:
    """The .safetensors file that `path` is or holds.

    Raises:
        CheckpointError: when there is none; pickles are named with the way to convert them.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        names = sorted(entry.name for entry in path.iterdir())
        raise CheckpointError(
            f"{path} holds no checkpoint",
            found=", ".join(names[:8]) or "an empty directory",
            expected="config.json and model.safetensors",
            remedy=CONVERT if any(name.endswith(PICKLES) for name in names) else "check the path",
        )
    if not file.exists():
        raise CheckpointError(f"{file} does not exist", remedy="check the path")
    if file.suffix in PICKLES:
        raise CheckpointError(
            f"{file} is a pickle, which can run code and is never read here",
            expected="a .safetensors file",
            remedy=CONVERT,
        )
    return file


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: when it cannot be read or is no object.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON", found=str(error)) from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path} is no config", found=f"a JSON {type(fields).__name__}", expected="an object")
    return fields


def read_config(directory: Path) -> DetrConfig | None:
    """The config in a directory of Hugging Face's layout, or None when there is no config.json."""
    file = directory / "config.json"
    return config_from_huggingface(read_json(file), str(file)) if file.exists() else None


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
    return shapes


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


def _shapes_in_file(expected: Mapping[str, Shape], spelling: Spelling) -> dict[str, Shape]:
    """The expected shapes by the file's own names; of packed q, k and v the rows are added up."""
    shapes: dict[str, Shape] = {}
    for name, shape in expected.items():
        theirs = spelling.spelled(name)
        rows = shapes[theirs][0] if theirs in shapes else 0
        shapes[theirs] = (rows + shape[0], *shape[1:])
    return shapes


def _misfits(tensors: Tensors, expected: Mapping[str, Shape]) -> list[str]:
    """What is missing, of another shape, no float, or unexpected."""
    there = [(name, tensors[name], shape) for name, shape in expected.items() if name in tensors]
    return [
        *(f"{name} missing" for name in expected if name not in tensors),
        *(f"{name} of shape {list(t.shape)}, not {list(shape)}" for name, t, shape in there if t.shape != shape),
        *(f"{name} of {t.dtype}, not floats" for name, t, _ in there if t.dtype.kind != "f"),
        *(f"{name} unexpected" for name in tensors if name not in expected),
    ]


def _not_finite(tensors: Tensors) -> list[str]:
    """Tensors with a NaN or an infinity. The sum shows it in one pass; only a suspect is looked at again."""
    with np.errstate(all="ignore"):
        suspects = {name: tensor for name, tensor in tensors.items() if not np.isfinite(tensor.sum())}
    counts = {name: int(np.count_nonzero(~np.isfinite(tensor))) for name, tensor in suspects.items()}
    return [f"{name} with {count} values that are NaN or infinite" for name, count in counts.items() if count]
