"""Files in one temporary directory, in which readers find their inputs."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@functools.cache
def directory(name: str) -> Path:
    """A temporary directory of this process; the same one for the same name."""
    _KEPT.append(tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-"))
    return Path(_KEPT[-1].name)


def written(name: str, data: bytes) -> Path:
    """The input as a file of this name, such as "model.safetensors"."""
    file = directory(name) / name
    file.write_bytes(data)
    return file
