"""A small model whose files are pinned, and where the cache keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from detr_onnx.hub.names import Model, PinnedFile

NAME, OFFICIAL, COMMIT = "owner/pinned", "facebook/detr-resnet-50", "b" * 40
FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


def pinned_as(content: Mapping[str, bytes]) -> tuple[Model, ...]:
    """The files pinned under both names."""
    pins = {name: PinnedFile(len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()}
    return Model(NAME, COMMIT, pins), Model(OFFICIAL, COMMIT, pins)


def cached(tmp_path: Path, file: str, name: str = NAME) -> Path:
    """A file of a pinned model in the cache."""
    return tmp_path / "home" / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / COMMIT / file
