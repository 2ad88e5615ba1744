"""What has been paid for: every reply of a far side, appended at once to a file, a line of JSON each.

A line's key is the image's sha256, the dialect, the base URL and the model. Later lines replace earlier ones. A line
that was cut off, by a crash or a full disk, is passed over.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from detr_onnx.bench.hosted.client import RemoteApi, Reply
from detr_onnx.errors import DatasetError, OutputError

Key = tuple[str, ...]
KEY = ("sha256", "dialect", "base_url", "model")


class Journal:
    """An open journal.

    Attributes:
        lines: the last line of each key.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path, self._lock = descriptor, path, threading.Lock()
        content = path.read_bytes()
        self._cut = content != b"" and not content.endswith(b"\n")  # a line has no end yet
        self.lines: dict[Key, dict[str, Any]] = {_key(line): line for line in _lines(content, path)}

    def reply(self, sha256: str, far: RemoteApi) -> dict[str, Any]:
        """The last line about an image.

        Raises:
            KeyError: there is none.
        """
        return self.lines[sha256, far.dialect, far.base_url, far.model]

    def settled(self, sha256: str, far: RemoteApi) -> bool:
        """Whether nothing is left to ask about an image."""
        line = self.lines.get((sha256, far.dialect, far.base_url, far.model))
        return line is not None and line["outcome"] != "failed"

    def note(self, sha256: str, far: RemoteApi, reply: Reply, concurrency: int | None) -> None:
        """Appends a reply, from any thread.

        Raises:
            OutputError: it cannot be written.
        """
        line = {
            "sha256": sha256,
            "dialect": far.dialect,
            "base_url": far.base_url,
            "model": far.model,
            "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "concurrency": concurrency,
            "outcome": reply.outcome,
            "ms": reply.ms,
            "trouble": reply.trouble,
            "retried": list(reply.retried),
            "detections": reply.detections,
        }
        with self._lock:
            self.lines[_key(line)] = line
            self._write(json.dumps(line).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        data = b"\n" + data if self._cut else data
        self._cut = True
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            self._cut = False
        except OSError as error:
            raise OutputError(f"cannot write {self._path}", found=error.strerror, remedy="make room for it") from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """The journal in a file, which is made if it is not there; nobody else may write to it meanwhile.

    Raises:
        DatasetError: the file is something else.
        OutputError: it cannot be opened, or another run has it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        what = f"cannot open the journal {path}"
        raise OutputError(what, found=error.strerror, remedy="choose another file") from error
    try:
        if not path.is_file():
            raise OutputError(f"the journal {path} is no file", remedy="choose another")
        _take(descriptor, path)
        yield Journal(descriptor, path)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    """Keeps other runs out, which would pay for the same images, until the file is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OutputError(f"another run is writing to the journal {path}", remedy="wait for its end") from error


def _lines(content: bytes, path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line.

    Raises:
        DatasetError: a line is of no journal.
    """
    for number, text in enumerate(content.split(b"\n"), start=1):
        try:
            line = json.loads(text) if text.strip() else None
        except ValueError:
            line = None
            if not b'{"sha256": '.startswith(text[:11]):
                raise _stranger(path, number) from None
        if line is not None:
            if not isinstance(line, dict) or not {*KEY, "outcome", "detections"} <= line.keys():
                raise _stranger(path, number)
            yield line


def _key(line: Mapping[str, Any]) -> Key:
    return tuple(line[name] for name in KEY)


def _stranger(path: Path, number: int) -> DatasetError:
    return DatasetError(f"{path} is no journal of this benchmark", found=f"line {number}", remedy="name another file")
