"""A small model whose files are pinned, and where the cache keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from detr_onnx.hub.names import HubModel, PinnedFile

NAME, OFFICIAL, COMMIT = "owner/pinned", "facebook/detr-resnet-50", "b" * 40
FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


def pinned_as(content: Mapping[str, bytes]) -> tuple[HubModel, ...]:
    """The files pinned under both names."""
    pins = {name: PinnedFile(len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()}
    return HubModel(NAME, COMMIT, pins), HubModel(OFFICIAL, COMMIT, pins)


def cached(tmp_path: Path, file: str, name: str = NAME) -> Path:
    """A file of a pinned model in the cache."""
    return tmp_path / "home" / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / COMMIT / file
