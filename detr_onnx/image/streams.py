"""Opens image files; the content of pipes and devices, which may be slow, silent or endless, is read within limits."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import stat
import time
from pathlib import Path
from typing import BinaryIO

from detr_onnx.errors import ImageError

MAX_STREAM_BYTES = 256 << 20
MAX_SILENCE_S, MAX_STREAM_S = 10.0, 120.0
CHUNK_BYTES = 1 << 20
URL = re.compile(r"(https?|ftp|s3|gs|file|data):", re.IGNORECASE)  # what no file is called
LONGEST_NAME = 200  # characters, in an error


def unreadable(name: str, path: str, found: str = "no such file", remedy: str = "check the path") -> ImageError:
    """The error for a path that cannot be opened. URLs and empty paths are named for what they are."""
    if URL.match(path):
        found, remedy = "a URL", "download it, and pass its path or its bytes"
    elif not path:
        found, remedy = "an empty path", "check the path"
    return ImageError(f"cannot read {short_name(name)!r}", found=found, remedy=remedy)


def short_name(name: str) -> str:
    """The name for an error message: its beginning if it is too long."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}…"


def open_image_file(path: Path) -> BinaryIO:
    """The file, opened for reading; of a pipe or a device, the content.

    Raises:
        OSError: it cannot be opened.
        ImageError: a pipe or a device sends nothing, does not end in time, or sends too much.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):  # Windows would say that there is no permission
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if os.name != "posix" or stat.S_ISREG(mode):
        return path.open("rb")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe without a writer would block
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return io.BytesIO(_read_in_time(file, str(path)))


def read_stdin(stream: BinaryIO) -> bytes:
    """The whole of stdin, however long it takes.

    Raises:
        ImageError: it sends more than an image can have.
    """
    content = stream.read(MAX_STREAM_BYTES + 1)
    _check_size(len(content), "stdin")
    return content


def _read_in_time(file: io.FileIO, name: str) -> bytes:
    content = bytearray()
    deadline = time.monotonic() + MAX_STREAM_S
    while True:
        wait_s = min(MAX_SILENCE_S, deadline - time.monotonic())
        if wait_s <= 0 or not select.select([file], [], [], wait_s)[0]:
            found = (
                f"no end within {MAX_STREAM_S:g} s" if wait_s < MAX_SILENCE_S else f"no data for {MAX_SILENCE_S:g} s"
            )
            raise ImageError(f"cannot read {name}", found=found, expected="an image file")
        chunk = file.read(CHUNK_BYTES)
        if chunk == b"":
            return bytes(content)
        content += chunk or b""  # None: another process has read what was there
        _check_size(len(content), name)


def _check_size(size: int, name: str) -> None:
    if size > MAX_STREAM_BYTES:
        limit = f"{MAX_STREAM_BYTES >> 20} MB"
        raise ImageError(f"cannot read {name}", found=f"more than {limit}", expected="an image file")
