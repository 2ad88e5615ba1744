"""Converts a pickled DETR, an original `.pth` or Hugging Face's `.bin`, into a directory that detr_onnx loads.

Needs torch, which reads the pickle with `weights_only=True`: no code in it is run. Names stay as they are; the loader
knows them. Without a config the tensors' shapes tell the model, with 8 attention heads, COCO's labels when there are
91 classes, and no dilation: for DC5 give the config.
"""

from __future__ import annotations

import argparse
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.atomic import draft_directory, move_together
from detr_onnx.checkpoint.inferred_config import ASSUMED_HEADS
from detr_onnx.checkpoint.load import checkpoint_of, read_config
from detr_onnx.checkpoint.safetensors import read_safetensors, write_safetensors
from detr_onnx.errors import CheckpointError, MissingPackageError, OutputError
from detr_onnx.file_kinds import START_BYTES, kind_of
from detr_onnx.paths import exists, is_directory, is_file
from detr_onnx.text import one_line, reason_of

STATE_KEYS = ("model", "state_dict")  # of the original training script, and of Lightning
UNSAFE = re.compile(r"Unsupported (?:global|class|type|operand)\S* ?(?:GLOBAL )?(?P<name>[A-Za-z_][\w.]*)")
SAVE_STATE = "load it with the code that wrote it, and save the model's state_dict() alone"


def convert(source: Path, directory: Path, config: Path | None = None) -> Path:
    """Writes model.safetensors and, where one is given, config.json; loads them once to check.

    A config.json that is already in the directory stays, if none is given; the weights have to fit it.

    Args:
        source: a pickled state dict, or what a training script saved with one in it.
        directory: is created where needed.
        config: the model's config.json, which is copied.

    Returns:
        The directory.

    Raises:
        CheckpointError: the file is not a checkpoint of a DETR.
        MissingPackageError: torch is not installed.
        OutputError: the directory cannot be written.
    """
    if config and not is_file(config):
        found = "a directory" if is_directory(config) else "no such file"
        remedy = "name the file in it" if is_directory(config) else "check the path"
        raise CheckpointError(f"{config} is not a config", found=found, expected="a config.json", remedy=remedy)
    if exists(source) and not is_file(source):  # opening a pipe would block
        raise CheckpointError(f"{source} cannot be read as a checkpoint of torch", found="not a file")
    content = _load(source)
    tensors = _tensors(content, source)
    if not config and not is_file(directory / "config.json"):
        _check_assumptions(content, source)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with draft_directory(directory) as part:
            if config:
                shutil.copyfile(config, part / "config.json")
            write_safetensors(part / "model.safetensors", tensors)
            described = read_config(part if config else directory)  # the one that will be beside the weights
            checkpoint_of(read_safetensors(part / "model.safetensors"), described, str(source))
            move_together(sorted(part.iterdir(), reverse=True), directory)  # the weights need their config
    except OSError as error:
        raise OutputError(f"{directory} cannot be written", found=reason_of(error)) from error
    return directory


def _load(path: Path) -> Any:
    """What a pickle of torch holds. Besides tensors and plain values only `argparse.Namespace` is let in.

    The original training script saves its options as a Namespace, which holds values and runs nothing.
    """
    try:
        import torch
    except ImportError as missing:
        what = "reading a PyTorch checkpoint needs torch"
        raise MissingPackageError(what, found=str(missing), remedy="run pip install torch") from missing
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the bytes of a file may lead to any error in torch's reader
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """What is wrong with a file that torch did not read."""
    start, forbidden = _start(path), UNSAFE.search(str(error))
    if forbidden:
        found = f"an object of {forbidden['name']}, which is never loaded"
        return CheckpointError(f"{path} holds more than weights", found=found, remedy=SAVE_STATE)
    is_pickle, is_refused = start.startswith(b"\x80"), isinstance(error, pickle.UnpicklingError)
    is_other_kind = start and not is_pickle and not start.startswith(b"PK")  # torch writes pickles and zip archives
    return CheckpointError(
        f"{path} cannot be read as a checkpoint of torch",
        found=kind_of(start) if is_other_kind or is_refused else one_line(error)[:200],
        remedy=SAVE_STATE if is_pickle and is_refused else None,
    )


def _start(path: Path) -> bytes:
    """The first bytes of a file, as far as they can be read."""
    try:
        with path.open("rb") as file:
            return file.read(START_BYTES)
    except OSError:
        return b""


def _tensors(content: Any, path: Path) -> dict[str, NDArray[np.float32]]:
    """Name -> float32 tensor of a state dict, bare or in what a training script saved; optimizers are left out."""
    import torch

    state = content
    if isinstance(content, Mapping):
        state = next((content[key] for key in STATE_KEYS if key in content), content)
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(
            f"{path} does not hold a state dict",
            found=_description(content),
            expected='tensors by name, or a dictionary with them under "model"',
        )
    floats = {str(name): value.detach() for name, value in state.items() if value.is_floating_point()}
    for name, value in floats.items():
        if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(
                f"{path} holds a tensor that is sparse or stored in part",
                found=f"{name[:100]} of shape {list(value.shape)[:8]}, {value.layout}",
                expected="dense tensors, with a value for each element",
            )
    return {name: value.float().numpy() for name, value in floats.items()}


def _check_assumptions(content: Any, path: Path) -> None:
    """Raises CheckpointError when the training options say something that would be assumed wrongly."""
    options = content.get("args") if isinstance(content, Mapping) else None
    heads, dilation = getattr(options, "nheads", ASSUMED_HEADS), getattr(options, "dilation", False)
    if heads != ASSUMED_HEADS or dilation:
        raise CheckpointError(
            f"{path} needs a config",
            found=f"training options nheads={heads!r}, dilation={dilation!r}, which no tensor's shape tells",
            remedy="give the model's config.json with --config",
        )


def _description(content: Any) -> str:
    """The content of a pickle, in a few words."""
    if isinstance(content, Mapping):
        return f"a dictionary with {', '.join(repr(key) for key in list(content)[:5]) or 'nothing'}"
    return f"a {type(content).__name__}"
