"""Turns a pickled DETR, original `.pth` or Hugging Face's `.bin`, into a directory that detr_onnx loads.

    python -m detr_onnx.checkpoint.convert_pth detr-r50-e632da11.pth -o DIRECTORY [--config config.json]

Needs torch, which reads the pickle with `weights_only=True`: nothing in it is run. Names stay as they are; the loader
knows them. Without a config the tensors' shapes tell the model, COCO's labels when there are 91 classes, and no
dilation: for DC5 give `--config`.
"""

from __future__ import annotations

import argparse
import pickle
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.load import load_checkpoint, read_config
from detr_onnx.checkpoint.safetensors import write_safetensors
from detr_onnx.errors import CheckpointError, DetrError, OutputError


def convert(source: Path, directory: Path, config: Path | None = None) -> Path:
    """The directory, with model.safetensors and, where one was given, config.json; it has been loaded once to check.

    Raises:
        CheckpointError: when the file is no checkpoint, or no DETR's.
        OutputError: when the directory cannot be written.
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
    """Name -> float32 tensor of a pickled state dict, bare or under "model" as the original training writes it.

    Raises:
        CheckpointError: when torch cannot read the file, or it holds no state dict.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint of torch", found=" ".join(str(error).split())[:200]
        ) from error
    state = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(
            f"{path} holds no state dict",
            found=_description(content),
            expected='tensors by name, or a dictionary with them under "model"',
        )
    return {name: value.float().numpy() for name, value in state.items() if value.is_floating_point()}


def _description(content: Any) -> str:
    """What a pickle holds, in a few words."""
    if isinstance(content, Mapping):
        return f"a dictionary with {', '.join(repr(key) for key in list(content)[:5]) or 'nothing'}"
    return f"a {type(content).__name__}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="detr_onnx.checkpoint.convert_pth", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("source", type=Path, help=".pth or .bin")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--config", type=Path, help="the model's config.json, copied beside the weights")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{convert(options.source, options.output, options.config)}\n")
    except DetrError as error:
        sys.stderr.write(f"pth_to_safetensors: error: {error}\n")
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
