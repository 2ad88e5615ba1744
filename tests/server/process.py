"""`detr-onnx serve` as a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.server.live_server import PATIENCE_S, RUN

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def served(*options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A process of `detr-onnx serve`, and its URL."""
    command = [sys.executable, "-m", "detr_onnx", "serve", "-m", "demo", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    line = process.stderr.readline()
    drain = threading.Thread(target=process.stderr.read)  # or its log would fill the pipe
    drain.start()
    try:
        assert '"listening"' in line, line
        yield process, json.loads(line)["url"]
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE_S)
        drain.join()
        process.stderr.close()


class UnixConnection(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(str(self._path))


def ask(server: str | Path, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of a response.

    Args:
        server: a URL, or the path of a unix socket.
    """
    if isinstance(server, Path):
        connection: http.client.HTTPConnection = UnixConnection(server)
    else:
        connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()


def post(url: str, body: bytes) -> int:
    """The status of the response to an image."""
    return ask(url, "POST", RUN, body)[0]
