"""Every reply of a remote API, appended to a file at once, one JSON object per line: what was paid for is never lost.

A line is an image's answer, of which the last one counts, or a request of a latency measurement, of which all count.
Both belong to an image's sha256, a dialect, a base URL and a model. A line that a crash or a full disk cut off is
skipped.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from detr_onnx import locks
from detr_onnx.atomic import writing
from detr_onnx.bench.hosted.api import RemoteApi
from detr_onnx.bench.hosted.client import Reply
from detr_onnx.bench.hosted.journal_lines import ANSWER, KEY, LATENCY, Line, checked_line
from detr_onnx.errors import DatasetError, OutputError
from detr_onnx.json_input import MAX_BYTES, parse_json
from detr_onnx.text import reason_of

Key = tuple[str, ...]
LINE_START = b'{"sha256": '
OPEN_TO_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
"""Binary: on Windows \\n would become \\r\\n."""
LONGEST_LINE = MAX_BYTES  # an answer of a hundred detections has 20 kB


@dataclass(frozen=True)
class LatencyRun:
    """One uninterrupted measurement of latency.

    Attributes:
        id: differs from all others.
        concurrency: requests at the same time.
    """

    id: str
    concurrency: int


class Journal:
    """An open journal."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path, self._lock = descriptor, path, threading.Lock()
        self._cut = False  # whether the last line has no end
        self._answers: dict[Key, Line] = {}
        self._latency: list[Line] = []
        with path.open("rb") as file:
            for line in _lines(file, path):
                self._keep(line)
            if file.tell():
                file.seek(-1, os.SEEK_CUR)
                self._cut = file.read() != b"\n"

    def answer(self, sha256: str, remote: RemoteApi) -> Line:
        """The last answer to an image.

        Raises:
            KeyError: there is none.
        """
        return self._answers[_key(sha256, remote)]

    def has_answer(self, sha256: str, remote: RemoteApi) -> bool:
        """Whether the image need not be sent again: it was answered or refused."""
        line = self._answers.get(_key(sha256, remote))
        return line is not None and line["outcome"] != "failed"

    def is_refused(self, sha256: str, remote: RemoteApi) -> bool:
        """Whether the API has refused the image."""
        line = self._answers.get(_key(sha256, remote))
        return line is not None and line["outcome"] == "refused"

    def latency(self, remote: RemoteApi, concurrency: int) -> list[Line]:
        """The requests of all latency measurements with so many at the same time, in order."""
        keys = (remote.dialect, remote.base_url, remote.model)
        return [
            line
            for line in self._latency
            if (line["dialect"], line["base_url"], line["model"]) == keys and line["concurrency"] == concurrency
        ]

    def add_answer(self, sha256: str, remote: RemoteApi, reply: Reply) -> None:
        """Appends an image's answer, from any thread.

        Raises:
            OutputError: it cannot be written.
        """
        self._append(_line(ANSWER, sha256, remote, reply) | {"detections": reply.detections})

    def add_latency(self, sha256: str, remote: RemoteApi, reply: Reply, run: LatencyRun, started_s: float) -> None:
        """Appends a request of a latency measurement, from any thread.

        Args:
            started_s: when the request began, in seconds after the run did.

        Raises:
            OutputError: it cannot be written.
        """
        line = _line(LATENCY, sha256, remote, reply)
        if reply.outcome == "answered" and self.has_answer(sha256, remote):
            line["same_answer"] = reply.detections == self.answer(sha256, remote)["detections"]
        self._append(line | {"concurrency": run.concurrency, "run": run.id, "started_s": round(started_s, 6)})

    def _append(self, line: Line) -> None:
        with self._lock:
            self._keep(line)
            self._write(json.dumps(line).encode() + b"\n")

    def _keep(self, line: Line) -> None:
        if line["kind"] == LATENCY:
            self._latency.append(line)
        else:
            self._answers[tuple(line[name] for name in KEY)] = line

    def _write(self, data: bytes) -> None:
        data = b"\n" + data if self._cut else data
        self._cut = True
        with writing(self._path, "free some space"):
            while data:
                data = data[os.write(self._descriptor, data) :]
            self._cut = False


@contextlib.contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """The journal in a file, which is created if missing and locked against other runs.

    Raises:
        DatasetError: the file is not a journal.
        OutputError: it cannot be opened, or another run has it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, OPEN_TO_APPEND, 0o644)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        what, found = f"cannot open the journal {path}", reason_of(error)
        raise OutputError(what, found=found, remedy="choose another file") from error
    try:
        if not path.is_file():
            raise OutputError(f"the journal {path} is not a file", remedy="choose another")
        _lock(descriptor, path)
        yield Journal(descriptor, path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    """Locks out other runs, which would pay for the same images, until the file is closed."""
    if locks.acquire(descriptor, wait=False) is False:
        raise OutputError(f"another run is writing to the journal {path}", remedy="wait until it ends")


def _line(kind: str, sha256: str, remote: RemoteApi, reply: Reply) -> dict[str, Any]:
    """What lines of both kinds have; the sha256 first, by which a line that was cut off is recognised."""
    return {
        "sha256": sha256,
        "kind": kind,
        "dialect": remote.dialect,
        "base_url": remote.base_url,
        "model": remote.model,
        "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "outcome": reply.outcome,
        "ms": reply.ms,
        "error": reply.error,
        "retried": list(reply.retried),
        "timing": reply.timing.to_dict() if reply.timing is not None else None,
    }


def _key(sha256: str, remote: RemoteApi) -> Key:
    return sha256, remote.dialect, remote.base_url, remote.model


def _lines(file: BinaryIO, path: Path) -> Iterator[Line]:
    """Every complete line.

    Raises:
        DatasetError: a line is not a journal's.
    """
    number = 0
    while text := file.readline(LONGEST_LINE):
        number += 1
        if not text.strip():
            continue
        try:
            value = parse_json(text, "a line", error=DatasetError)
        except DatasetError:
            if len(text) == LONGEST_LINE or not LINE_START.startswith(text[: len(LINE_START)].rstrip(b"\n")):
                raise _not_a_journal(path, number) from None
            continue  # it was cut off
        line = checked_line(value)
        if line is None:
            raise _not_a_journal(path, number)
        yield line


def _not_a_journal(path: Path, number: int) -> DatasetError:
    what = f"{path} is not a journal of compare-hosted"
    found, expected = f"something else in line {number}", "the line of a reply"
    return DatasetError(what, found=found, expected=expected, remedy="name another file")
