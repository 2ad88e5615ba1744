"""From a file of weights, in whatever naming, to canonical tensors that fit their config.

Canonical names are Hugging Face's without their prefixes, and torchvision's for the backbone:
`backbone.layer1.0.conv1.weight`, `encoder.layers.0.self_attn.q_proj.weight`, `bbox_predictor.layers.2.bias`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.files import read_weights, weights_file
from detr_onnx.checkpoint.huggingface_config import config_from_huggingface
from detr_onnx.checkpoint.inferred_config import ASSUMED_HEADS, config_from_shapes
from detr_onnx.checkpoint.naming import PACKED_PARTS, Naming, detect_naming, without_wrappers
from detr_onnx.checkpoint.naming_tables import IGNORED_LEAVES, KNOWN_EXTRAS, MASK_HEAD_ROOTS, ROOTS
from detr_onnx.checkpoint.safetensors import Tensors
from detr_onnx.checkpoint.tensor_shapes import Shape, expected_shapes
from detr_onnx.errors import CheckpointError
from detr_onnx.json_input import read_object
from detr_onnx.network.config import MOST_STAGES, DetrConfig, check_sizes

Array = NDArray[np.float32]

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
    tensors = _without_unread_stages(tensors, naming, config)
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


def _without_unread_stages(tensors: Tensors, naming: Naming, config: DetrConfig) -> Tensors:
    """The tensors without the stages after the last that is used: transformers' own ResNet always has all of them."""
    unread = tuple(f"backbone.layer{s}." for s in range(len(config.backbone.depths) + 1, MOST_STAGES + 1))
    if not unread:
        return tensors
    return {name: t for name, t in tensors.items() if not (naming.canonical_name(name) or "").startswith(unread)}


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
