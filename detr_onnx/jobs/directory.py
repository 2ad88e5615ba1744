"""The directory of a job: it is made if it is missing, and one process at a time works on each shard."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from detr_onnx import locks
from detr_onnx.atomic import writing
from detr_onnx.errors import OutputError
from detr_onnx.jobs.shard import Shard
from detr_onnx.paths import exists
from detr_onnx.text import reason_of


def make_directory(directory: Path) -> None:
    """Makes a directory for results.

    Raises:
        OutputError: it cannot be made, or nothing can be written there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = "a file of that name" if exists(directory) else reason_of(error)
        raise OutputError(
            f"cannot create the directory {directory}", found=found, remedy="choose another directory"
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write into {directory}", found="no permission", remedy="choose a directory that can be written"
        )


@contextlib.contextmanager
def only_process(directory: Path, shard: Shard) -> Iterator[None]:
    """Locks a shard for this process. The system releases the lock of a process that dies; the lock file stays.

    On file systems without locks, several processes can work on a shard.

    Raises:
        OutputError: another process has the shard.
    """
    path = directory / f".lock-{shard.tag}".rstrip("-")
    with writing(path, "choose another directory"):
        file = path.open("a+b")
    with file:
        if locks.acquire(file.fileno(), wait=False) is False:
            which = f"shard {shard} of {directory}" if shard.count > 1 else str(directory)
            raise OutputError(f"another process is writing {which}", remedy="wait for it, or choose another directory")
        yield
