"""A server of `detr-onnx serve` as a process of its own, its workers, and what the system says of them (Linux)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from detr_onnx.errors import EngineError

REMOTE, INODE = 2, 9  # columns of /proc/PID/net/tcp
STOP_S = 60.0  # until a server that does not end by itself is killed


@contextlib.contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts a server as a user would, and stops it; its process and its address.

    Raises:
        EngineError: it has not started.
    """
    command = [sys.executable, "-m", "detr_onnx", "serve", "--port", "0", "--no-access-log", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = listening(process)
            if address is None:
                raise EngineError("the server has not started", remedy=f"run {shlex.join(command)}, which says why")
            yield process, address
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def listening(process: subprocess.Popen[str]) -> str | None:
    """The address of a server that has started; None if it ended instead."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("{") and "url" in (event := json.loads(line)):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return str(urlsplit(event["url"]).netloc)
    return None


def health_ms(address: str) -> float:
    """Milliseconds of a request to /healthz on a new connection."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    connection.close()
    return (time.perf_counter() - started) * 1e3


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def workers(server: int) -> list[int]:
    """The process ids of a server's workers, the oldest first."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in _command(pid)]


def _command(pid: str) -> bytes:
    with contextlib.suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def kill(pid: int, lost_ports: set[int]) -> None:
    """Sends SIGKILL to a worker; before, adds the clients' ports of all its connections to `lost_ports`.

    The worker is stopped first, so that it neither accepts nor answers between the two.

    Raises:
        OSError: it has ended by itself.
    """
    os.kill(pid, signal.SIGSTOP)
    while _state(pid) not in "TZ":  # stopped, or ended
        time.sleep(0.001)
    lost_ports |= client_ports(pid)
    os.kill(pid, signal.SIGKILL)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def client_ports(pid: int) -> set[int]:
    """The clients' ports of the TCP connections (IPv4) that a process holds."""
    files = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[REMOTE].rpartition(":")[2], 16) for row in rows if f"socket:[{row[INODE]}]" in files}
