"""Converts a pickled DETR, an original `.pth` or Hugging Face's `.bin`, to a directory that detr_onnx loads.

torch reads the pickle with `weights_only=True`, so no code in it is run. Tensor names stay as they are: the loader
knows them. Without a config, the model is derived from the shapes of the tensors, with COCO's labels if there are 91
classes and without dilation; a DC5 model needs its config.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.load import load_checkpoint, read_config
from detr_onnx.checkpoint.safetensors import write_safetensors
from detr_onnx.errors import CheckpointError, DetrError, OutputError


def convert(source: Path, directory: Path, config: Path | None = None) -> Path:
    """Writes model.safetensors and, if given, config.json into the directory, and loads them once as a check.

    Returns:
        The directory.

    Raises:
        DetrError: torch is not installed.
        CheckpointError: the file is not a checkpoint, or not one of DETR.
        OutputError: the directory cannot be written.
    """
    if config and not config.is_file():
        raise CheckpointError(f"{config} does not exist", remedy="check the path")
    tensors = read_pickle(source)
    part = directory / ".part"
    try:
        part.mkdir(parents=True, exist_ok=True)
        if config:
            shutil.copyfile(config, part / "config.json")
            read_config(part)
        write_safetensors(part / "model.safetensors", tensors)
        load_checkpoint(part)
        for file in part.iterdir():
            file.replace(directory / file.name)
    except OSError as error:
        raise OutputError(f"{directory} cannot be written", found=error.strerror) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return directory


def read_pickle(path: Path) -> dict[str, NDArray[np.float32]]:
    """float32 tensors by name, of a pickled state dict or, as the original training saves it, one under "model".

    Raises:
        DetrError: torch is not installed.
        CheckpointError: torch cannot read the file, or there is no state dict in it.
    """
    try:
        import torch
    except ImportError as error:
        remedy = "run pip install torch"
        raise DetrError("reading a PyTorch checkpoint needs torch", found=str(error), remedy=remedy) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint of torch", found=" ".join(str(error).split())[:200]
        ) from error
    state = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(
            f"{path} contains no state dict",
            found=_description(content),
            expected='tensors by name, or a dictionary with them under "model"',
        )
    return {name: value.float().numpy() for name, value in state.items() if value.is_floating_point()}


def _description(content: Any) -> str:
    """The content of a pickle, in a few words."""
    if isinstance(content, Mapping):
        return f"a dictionary with {', '.join(repr(key) for key in list(content)[:5]) or 'nothing'}"
    return f"a {type(content).__name__}"
