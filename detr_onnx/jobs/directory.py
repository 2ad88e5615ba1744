"""The directory of a job: made if it is not there, and held by one process for each shard."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from detr_onnx import locks
from detr_onnx.errors import OutputError
from detr_onnx.jobs.shard import Shard
from detr_onnx.paths import exists


def make_directory(directory: Path) -> None:
    """Makes a directory for results.

    Raises:
        OutputError: it cannot be made, or nothing can be written there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = "a file of that name" if exists(directory) else error.strerror
        raise OutputError(f"cannot make the directory {directory}", found=found, remedy="choose another") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write into {directory}", found="no permission", remedy="choose a directory that can be written"
        )


@contextlib.contextmanager
def only_process(directory: Path, shard: Shard) -> Iterator[None]:
    """Keeps other processes from the same shard. The system ends the hold of a process that dies; the file stays.

    On file systems without locks nothing is kept out.

    Raises:
        OutputError: another process has the shard.
    """
    path = directory / f".lock-{shard.tag}".rstrip("-")
    try:
        file = path.open("a+b")
    except OSError as error:
        raise OutputError(f"cannot write {path}", found=error.strerror, remedy="choose another directory") from error
    with file:
        if locks.acquire(file.fileno(), wait=False) is False:
            which = f"shard {shard} of {directory}" if shard.count > 1 else str(directory)
            raise OutputError(f"another process is writing {which}", remedy="wait for it, or choose another directory")
        yield
