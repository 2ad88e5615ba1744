"""Files in one temporary directory, in which readers find their inputs."""

from __future__ import annotations

import functools
import shutil
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path


@functools.cache
def directory(name: str) -> Path:
    """A temporary directory of this process, removed when it ends; the same one for the same name."""
    path = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    Finalize(None, shutil.rmtree, args=(path, True), exitpriority=1)  # atexit does not run in a pool's processes
    return path


def written(name: str, data: bytes) -> Path:
    """The input as a file of this name, such as "model.safetensors"."""
    file = directory(name) / name
    file.write_bytes(data)
    return file
