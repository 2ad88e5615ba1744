"""A small seeded model, images for it, and files like those of other exporters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_onnx.exporter.onnx_file import ExportOptions, onnx_model
from detr_onnx.models.metadata import read_model
from tests.parity.seeded import CONFIGS, huggingface_config, write_checkpoint

LABELS = ("cat", "dog", "remote", "N/A", "traffic light", "salt, pepper", "bücherregal")
CONFIG = replace(CONFIGS["small"], labels=LABELS)
PANOPTIC_CONFIG = replace(CONFIGS["small-panoptic"], labels=LABELS)
SHORTEST_PX, LONGEST_PX = 64, 107  # DETR's 800 and 1333, small
PREPROCESSING = {"size": {"shortest_edge": SHORTEST_PX, "longest_edge": LONGEST_PX}}
SEED = 7


def write_small_checkpoint(directory: Path, seed: int = SEED) -> Path:
    """A directory in Hugging Face's layout."""
    write_checkpoint(directory, CONFIG, seed)
    (directory / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return directory


def write_panoptic_checkpoint(directory: Path, seed: int = 1) -> Path:
    """The same for a panoptic model; at a threshold of 0.35 it finds several objects in `patches`."""
    write_checkpoint(directory, PANOPTIC_CONFIG, seed)
    (directory / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 160, "longest_edge": 266}})
    )
    return directory


def patches(width: int, height: int, seed: int = 0) -> Image.Image:
    """Patches of colour that are larger than a cell."""
    colours = np.random.RandomState(seed).randint(0, 255, (7, 9, 3)).astype(np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)


def sample_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Colours that change slowly, with noise."""
    random = np.random.default_rng(seed)
    x, y = np.arange(width) / 9, np.arange(height)[:, None] / 7
    waves = [np.sin(x * (1 + k) + seed) * np.cos(y + k * seed) for k in range(3)]
    values = 128 + 90 * np.stack(waves, axis=-1) + random.normal(0, 12, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def write_foreign_onnx(path: Path, checkpoint: Path, options: ExportOptions, **axes: list[int | str]) -> Path:
    """Our graph, as another exporter would write it: no metadata, and inputs with these axes."""
    model: Any = onnx_model(*read_model(checkpoint), options)
    del model.metadata_props[:]
    model.producer_name = "another"
    for value in model.graph.input:
        for axis, length in zip(value.type.tensor_type.shape.dim, axes.get(value.name, []), strict=False):
            axis.Clear()
            setattr(axis, "dim_value" if isinstance(length, int) else "dim_param", length)
    path.write_bytes(model.SerializeToString())
    return path


def write_config(directory: Path) -> Path:
    """A directory with only config.json and preprocessor_config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(huggingface_config(CONFIG)))
    (directory / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return directory
