"""The soak test of the server: every outcome of a request is told apart, and a short one ends without a fault."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")
if not Path("/proc/self/net/tcp").exists():
    pytest.skip("the system does not list connections", allow_module_level=True)

from benchmarks import load, siege
from benchmarks.load import KILLED, LOST, REFUSED, RIGHT, WRONG, Kind
from benchmarks.protocols import every_kind
from benchmarks.server import kill, serving
from detr_onnx import Detector

KIND = Kind("health", 1, "/healthz", {}, b"", 200, {"status": "ok"}, json.loads, "GET")
SECONDS = 6.0


def reply(status: int, body: bytes, length: int | None = None) -> bytes:
    """A response that announces `length` bytes, by default those it has."""
    announced = len(body) if length is None else length
    return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, announced, body)


@contextlib.contextmanager
def answering(data: bytes) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server that answers one request with these bytes."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        with contextlib.closing(http.client.HTTPConnection(*listener.getsockname(), timeout=60)) as connection:
            yield connection
        thread.join()


@pytest.mark.parametrize(("data", "end", "detail"), [
    (reply(200, b'{"status": "ok"}'), RIGHT, "health: 200"),
    (reply(200, b'{"status": "stuck"}'), WRONG, "health: 200 {'status': 'stuck'}"),
    (reply(200, b"ok"), WRONG, "health: 200 b'ok'"),
    (reply(500, b'{"status": "ok"}'), WRONG, "health: 500"),
    (reply(408, b"{}"), WRONG, "health: 408"),
    (reply(429, b"{}"), REFUSED, "health: 429"),
    (reply(503, b"{}"), REFUSED, "health: 503"),
    (reply(200, b"{", 100), LOST, "health: IncompleteRead"),
    (b"", LOST, "health: RemoteDisconnected"),
])  # fmt: skip
def test_the_end_of_a_request_is_told(data, end, detail):
    with answering(data) as connection:
        ended, said = load.sent(connection, KIND, set())
    assert ended == end
    assert said.startswith(detail)


def test_a_request_without_a_response_is_counted_apart_only_if_the_test_killed_its_worker():
    for is_killed, end in ((True, KILLED), (False, LOST)):
        with answering(b"") as connection:
            connection.connect()
            killed = {connection.sock.getsockname()[1]} if is_killed else {1}
            assert load.sent(connection, KIND, killed)[0] == end


def test_a_new_connection_is_not_one_of_a_killed_worker():
    with answering(b"") as connection:
        killed = {0, *range(1024, 65536)}
        assert load.sent(connection, KIND, killed) == (LOST, "health: RemoteDisconnected")


def test_a_refused_connection_is_a_lost_request():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    assert load.sent(http.client.HTTPConnection(*address), KIND, set()) == (LOST, "health: ConnectionRefusedError")


def test_a_worker_is_killed_after_its_connections_are_known():
    program = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "
    program += "c = s.accept()[0]; print('in', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        address = ("127.0.0.1", int(process.stdout.readline()))
        with socket.create_connection(address) as accepted:
            assert process.stdout.readline() == "in\n"
            with socket.create_connection(address) as waiting:
                killed: set[int] = set()
                kill(process.pid, killed)
                assert accepted.getsockname()[1] in killed
                assert waiting.getsockname()[1] not in killed
        assert process.wait() == -signal.SIGKILL


def test_memory_is_told_by_quarter_without_the_first_eighth():
    told = load.memory_by_quarter([100.0, *[200.0] * 3, *[300.0] * 4])
    assert told == {"memory_mb_by_quarter": [200.0, 200.0, 300.0, 300.0], "memory_ratio": 1.5}
    assert load.memory_by_quarter([7.0])["memory_mb_by_quarter"] == [7.0] * 4


def test_what_must_not_happen_is_named():
    right = {"wrong": {}, "lost": {}, "oldest_lived": True, "exit_status": 0}
    assert siege.faults(right) == []
    wrong = {"wrong": {"raw 0: 500": 2}, "lost": {"raw 1: TimeoutError": 1}, "oldest_lived": False, "exit_status": 1}
    assert len(siege.faults(wrong)) == 4


def test_a_short_soak_of_every_protocol_with_kills_has_no_fault(monkeypatch):
    for name, value in (("PAUSE_S", 1.0), ("ATTACK_S", 1.0), ("IDLE", 20), ("SLOW", 2), ("HUGE", 1)):
        monkeypatch.setattr(siege, name, value)
    kinds = every_kind(Detector("demo-panoptic"))
    with serving("-m", "demo-panoptic", "--workers", "2") as (process, address):
        results = siege.soak(address, process.pid, kinds, SECONDS, 4)
    assert siege.faults({**results, "exit_status": process.returncode}) == []
    assert results["requests"] > 10
    assert results["events"]["kills"] >= 1
