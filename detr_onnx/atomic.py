"""Files that are written completely or not at all.

The content goes to a temporary file in the same directory, which is flushed to the disk and then renamed. A full disk
or a killed process therefore never leaves a truncated file behind. Temporary files of killed processes are removed by
the next write into the directory.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

DRAFT_PREFIX, DRAFT_SUFFIX = ".detr-onnx-", ".part"
STREAM_DIRECTORIES = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}  # /dev/stdout may stand for a regular file


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file, or raises OSError and leaves what was there."""
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when the block ends without an error.

    Symbolic links are followed. A device or a pipe cannot be replaced, so it is written directly.

    Raises:
        OSError: the content cannot be written; `path` is as it was.
    """
    if (path.exists() and not path.is_file()) or path.absolute().parent in STREAM_DIRECTORIES:
        with path.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    _remove_abandoned_drafts(target.parent)
    draft = target.with_name(f"{_own_prefix()}{os.getpid()}-{os.urandom(4).hex()}{DRAFT_SUFFIX}")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _own_prefix() -> str:
    """The beginning of the drafts of this machine: process ids of others, on a shared disk, mean nothing here."""
    node = "" if sys.platform == "win32" else os.uname().nodename[:64]
    return f"{DRAFT_PREFIX}{node}-"


def _remove_abandoned_drafts(directory: Path) -> None:
    """Removes the drafts of processes that no longer run."""
    prefix = _own_prefix()
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            if entry.name.startswith(prefix) and entry.name.endswith(DRAFT_SUFFIX):
                process_id = entry.name.removeprefix(prefix).split("-")[0]
                if process_id.isdecimal() and not _is_running(int(process_id)):
                    with contextlib.suppress(OSError):  # another process may be removing it too
                        os.unlink(entry.path)  # noqa: PTH108 - as scandir gives it


def _is_running(process_id: int) -> bool:
    if sys.platform == "win32":  # os.kill would end the process
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # a process of another user, or a number that is no process id
        return True
    return True
