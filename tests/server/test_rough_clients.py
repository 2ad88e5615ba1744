"""Slow, broken and vanished clients, and shutdown: others are served, memory is bounded, no response is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
import tracemalloc
from pathlib import Path
from types import FrameType, SimpleNamespace
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")

from starlette.requests import Request

from detr_onnx import server
from detr_onnx.cli import main as cli
from detr_onnx.server import run as server_run
from detr_onnx.server import workers
from detr_onnx.server.connection import NOT_HTTP
from detr_onnx.server.intake import Intake
from detr_onnx.server.service import Service
from detr_onnx.server.settings import Settings
from detr_onnx.server.workers import METRICS_DIRECTORY
from tests.server.live_server import PATIENCE_S, RUN, LiveServer, until
from tests.server.process import post, served

ROOT = Path(__file__).parents[2]
IMAGE = (ROOT / "examples" / "demo-scene.jpg").read_bytes()
HEAD = f"POST {RUN} HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def live(detector):
    with LiveServer(detector, timeout_s=20, max_body=1 << 20) as live:
        yield live


def response_on(connection: socket.socket) -> http.client.HTTPResponse:
    """The next response on a connection, read to its end."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.body = answer.read()
    return answer


def code_on(connection: socket.socket) -> tuple[int, int]:
    answer = response_on(connection)
    return answer.status, json.loads(answer.body)["errors"][0]["code"]


def posting(length: int | str, body: bytes) -> bytes:
    return f"{HEAD}Content-Length: {length}\r\n\r\n".encode() + body


# Bodies


def test_pipelined_requests_are_answered_in_order(live):
    with live.raw() as connection:
        get = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: %d\r\n\r\n"
        connection.sendall(get % 1 + posting(len(IMAGE), IMAGE) + get % 2 + posting(5, b"hello") + get % 3)
        reader = connection.makefile("rb")
        with contextlib.closing(reader):
            statuses = []
            for _ in range(5):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += reader.readline()
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                reader.read(length)
                statuses.append(int(head.split()[1]))
    assert statuses == [200, 200, 200, 400, 200]


def test_a_chunked_body_is_one_image(live):
    with live.raw() as connection:
        pieces = [IMAGE[i : i + 7000] for i in range(0, len(IMAGE), 7000)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        connection.sendall(HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n")
        answer = response_on(connection)
    assert json.loads(answer.body)["success"] is True


def test_a_client_that_waits_for_100_continue_gets_it(live):
    with live.raw() as connection:
        connection.sendall(f"{HEAD}Content-Length: {len(IMAGE)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(IMAGE)
        assert response_on(connection).status == 200


def test_a_body_that_is_declared_too_large_is_refused_before_it_is_sent(live):
    with live.raw() as connection:
        connection.sendall(f"{HEAD}Content-Length: {1 << 30}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert code_on(connection) == (413, 3006)


def test_a_body_that_never_ends_is_refused_and_cut(live):
    with live.raw() as connection:
        connection.sendall(HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk, sent = b"10000\r\n" + bytes(0x10000) + b"\r\n", 0
        with contextlib.suppress(OSError):
            while sent < 1 << 30:
                connection.sendall(chunk)
                sent += len(chunk)
    assert sent < 200 << 20
    until_idle(live)


def frames_with(name: str, value: bytes) -> set[str]:
    """Names of the functions that hold `value`, even those that have ended, as in the traceback of an error."""
    frames = [o for o in gc.get_objects() if isinstance(o, FrameType)]
    return {frame.f_code.co_name for frame in frames if len(frame.f_locals.get(name) or b"") == len(value)}


@pytest.mark.parametrize("body", [bytes(800_000), b"[" * 800_000], ids=["no image", "no json"])
def test_a_refused_body_is_freed_at_once(live, body):
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            assert (
                live.post(RUN, body, content_type="application/json" if body[:1] == b"[" else "image/png").status == 400
            )
        until(lambda: not frames_with("body", body) - {"test_a_refused_body_is_freed_at_once"})
    finally:
        gc.enable()


def test_a_body_is_held_once():
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    async def held() -> int:
        intake = Intake(max_body=size, max_held=size, timeout_s=PATIENCE_S)
        async with intake.body(Request({"type": "http", "headers": []}, receive)) as body:
            assert (len(body), intake.held) == (size, size)
            bytes_held = tracemalloc.get_traced_memory()[0]
        assert intake.held == 0
        return bytes_held

    size = 8 << 20
    tracemalloc.start()
    try:
        assert asyncio.run(held()) < 1.5 * size
    finally:
        tracemalloc.stop()


def test_a_client_that_disconnects_after_half_a_body_leaves_nothing_behind(live):
    for _ in range(20):
        with live.raw() as connection:
            connection.sendall(posting(len(IMAGE), IMAGE[:9000]))
    until_idle(live)


def test_a_client_that_stops_after_half_a_body_gets_408(detector):
    with LiveServer(detector, timeout_s=1) as impatient, impatient.raw() as connection:
        connection.sendall(posting(len(IMAGE), IMAGE[:9000]))
        assert code_on(connection) == (408, 3007)
        until_idle(impatient)


def test_bytes_after_the_declared_length_are_not_part_of_the_image(live):
    with live.raw() as connection:
        connection.sendall(posting(len(IMAGE), IMAGE + b"more"))
        assert response_on(connection).status == 200


@pytest.mark.parametrize(
    "request_line",
    [b"nonsense\r\n\r\n", posting("-5", b""), posting("x", b""), posting("5, 6", b"hello"),
     b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"],
)  # fmt: skip
def test_a_request_that_is_not_http_is_refused_and_the_next_client_is_served(live, request_line):
    with live.raw() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(request_line)
        assert connection.recv(100)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
    assert live.get("/healthz").status == 200


def test_what_is_not_http_is_refused_in_a_sentence(live):
    with live.raw() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert response_on(connection).body.decode() == NOT_HTTP


def test_a_chunk_that_is_malformed_when_the_refusal_has_begun_closes_the_connection_quietly(live, caplog):
    with live.raw() as connection:
        head = b"POST /v2/nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"5\r\nhello\r\n")
        assert response_on(connection).status == 404
        connection.sendall(b"not a length\r\n")
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""
    assert live.get("/healthz").status == 200
    assert caplog.text == ""


def test_all_bodies_together_are_bounded(detector):
    with LiveServer(detector, max_held=100_000) as small:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(small.raw()).sendall(posting(40_000, bytes(30_000)))
            until(lambda: small.service.intake.held == 90_000)
            refused = small.post(RUN, bytes(20_000))
            assert refused.error[:2] == (429, 3040)
            assert refused.headers["retry-after"] == "1"
        until_idle(small)
        assert small.post(RUN, IMAGE).status == 200


def until_idle(live: LiveServer) -> None:
    """Waits until the server holds nothing of any request."""
    until(lambda: live.service.intake.held == 0 and live.service.inference.pending == 0)


# Many connections


def test_a_thousand_idle_and_half_open_connections_do_not_block_others(detector):
    server_run.raise_file_limit()
    with LiveServer(detector) as crowded, contextlib.ExitStack() as stack:
        for number in range(1000):
            connection = stack.enter_context(crowded.raw())
            if number % 2:
                connection.sendall(HEAD.encode())
        until(lambda: len(crowded.server.server_state.connections) >= 1000)
        assert crowded.get("/healthz").status == 200
        assert crowded.post(RUN, IMAGE).status == 200


@pytest.fixture
def watched(detector, monkeypatch):
    """The address of a server that closes connections soon: 0.6 s before the first header, 1.2 s after a response."""
    monkeypatch.setattr(server_run, "KEEP_ALIVE_S", 1.2)
    monkeypatch.setattr(server_run, "POLL_S", 0.05)
    settings = Settings(lambda: detector, "demo", access_log=False, idle_s=0.6)
    started = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = server_run.Process(settings, listener, started, detector)
        thread = threading.Thread(target=lambda: asyncio.run(process.run()))
        thread.start()
        assert started.wait(PATIENCE_S)
        yield listener.getsockname()
        process._server.should_exit = True
        thread.join()


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_connection_with_a_request_now_and_then_stays_open(watched):
    with socket.create_connection(watched, timeout=PATIENCE_S) as connection:
        for _ in range(12):
            connection.sendall(HEALTH)
            assert response_on(connection).status == 200
            time.sleep(0.3)


@pytest.mark.parametrize("before", [b"", HEALTH], ids=["the first header", "a later header"])
def test_half_a_header_does_not_keep_a_connection_open(watched, before):
    with socket.create_connection(watched, timeout=PATIENCE_S) as connection:
        if before:
            connection.sendall(before)
            assert response_on(connection).status == 200
        connection.sendall(HEAD.encode())
        assert connection.recv(1) == b""


def test_a_client_that_does_not_read_its_responses_is_disconnected(watched):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_S)
        connection.connect(watched)
        connection.sendall(b"GET /sample.jpg HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
        until(lambda: is_disconnected(connection), seconds=20)


def is_disconnected(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection; what it sent is not read."""
    try:
        connection.sendall(HEALTH)
    except OSError:
        return True
    return False


def test_a_worker_reports_its_pending_requests_without_being_asked(detector, monkeypatch):
    monkeypatch.setattr(server_run, "POLL_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = server_run.Process(Settings(lambda: detector, "demo"), listener, None, detector)
    process._service.inference.pending = 3

    async def look_after_for_a_while() -> None:
        task = asyncio.create_task(process._look_after())
        await asyncio.sleep(0.3)
        task.cancel()

    asyncio.run(look_after_for_a_while())
    process._service.inference.close()
    assert process._service.metrics.registry.get_sample_value("detr_pending_requests") == 3


def test_a_stuck_worker_ends_after_its_requests_however_often_it_is_found_stuck(detector, monkeypatch, tmp_path):
    monkeypatch.setenv(METRICS_DIRECTORY, str(tmp_path))
    monkeypatch.setattr(server_run, "POLL_S", 0.01)
    monkeypatch.setattr(Service, "status", "stuck")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = server_run.Process(Settings(lambda: detector, "demo", workers=2), listener, None, detector)

    async def look_after_for_a_while() -> None:
        task = asyncio.create_task(process._look_after())
        await asyncio.sleep(0.3)
        process._stop()  # of the supervisor, which ends at the same time
        task.cancel()

    asyncio.run(look_after_for_a_while())
    process._service.inference.close()
    assert (process.exit_status, process._service.stopping, process._server.force_exit) == (1, True, False)


# The command, as a process


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_sigterm_ends_the_server_after_the_last_accepted_request_is_answered(options):
    statuses: list[int | str] = []

    def client(url: str) -> None:
        """Sends requests on one connection until it is closed."""
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.connect()
            while True:
                try:
                    connection.request("POST", RUN, IMAGE)
                    answer = connection.getresponse()
                    answer.read()
                except OSError as error:
                    statuses.append(repr(error))
                    return
                statuses.append(answer.status)
                if answer.headers.get("connection") == "close":
                    return

    with served(*options, "--no-access-log") as (process, url):
        clients = [threading.Thread(target=client, args=(url,)) for _ in range(8)]
        for thread in clients:
            thread.start()
        until(lambda: len(statuses) > 8)
        process.send_signal(signal.SIGTERM)
        for thread in clients:
            thread.join()
        assert process.wait(PATIENCE_S) == 0
    assert set(statuses) == {200}
    with pytest.raises(OSError, match="refused"):
        post(url, IMAGE)


def workers_of(process: subprocess.Popen) -> set[str]:
    """The process ids of a server's workers."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("the system does not list a process's children")

    def command(pid: str) -> bytes:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has just ended
            return b""

    return {pid for pid in children.read_text().split() if b"spawn_main" in command(pid)}


def test_a_signal_to_the_supervisor_and_its_workers_lets_a_request_finish():
    with served("--workers", "2", "--no-access-log") as (process, url):
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as connection:
            connection.sendall(posting(len(IMAGE), IMAGE[:1000]))
            time.sleep(0.5)
            for pid in (process.pid, *map(int, workers_of(process))):
                os.kill(pid, signal.SIGTERM)
            time.sleep(3)  # the supervisor passes the signal on within half a second
            connection.sendall(IMAGE[1000:])
            assert response_on(connection).status == 200
        assert process.wait(PATIENCE_S) == 0


def runs_counted(url: str) -> float:
    """The requests to RUN that all workers have counted."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    lines = [line for line in text.splitlines() if line.startswith("detr_requests_total{") and "/ai/run/" in line]
    return sum(float(line.split()[-1]) for line in lines)


def test_a_worker_that_dies_is_replaced_and_the_counts_of_all_are_added_up():
    with served("--workers", "2", "--no-access-log") as (process, url):
        for _ in range(6):
            assert post(url, IMAGE) == 200
        # A request is counted after its response, so another worker may report the sum a moment before.
        until(lambda: runs_counted(url) == 6)
        before = workers_of(process)
        killed, other = sorted(before)
        os.kill(int(killed), signal.SIGKILL)
        until(lambda: workers_of(process) - before)
        for _ in range(6):
            assert post(url, IMAGE) == 200
        until(lambda: runs_counted(url) == 12)
        until(lambda: {"0", "1"} == {file.stem.rpartition("_")[2] for file in count_files(other)})


def test_a_worker_that_cannot_be_started_now_is_started_later(monkeypatch, tmp_path):
    def refuse(*arguments: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(workers, "RESTART_S", 0)
    monkeypatch.setattr(workers, "_start", refuse)
    ended = workers.Worker(0, SimpleNamespace(pid=1, exitcode=-9), None)
    assert workers._successor(lambda: None, ended, str(tmp_path)) is ended


def count_files(worker: str) -> list[Path]:
    """The files in which the workers of the same server count; they end with a worker's number."""
    variables = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    directory = next(v for v in variables if v.startswith(METRICS_DIRECTORY.encode())).partition(b"=")[2]
    return [*Path(directory.decode()).glob("*.db")]


def test_it_listens_on_loopback_by_default():
    with served("--no-access-log") as (_, url):
        assert urlsplit(url).hostname == "127.0.0.1"


def test_a_port_in_use_is_an_error_of_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["serve", "-m", "demo", "--port", str(taken.getsockname()[1])]) == 1
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_a_name_that_no_host_can_have_is_an_error_of_one_line(capsys, host):
    assert cli.main(["serve", "-m", "demo", "--host", host, "--port", "0"]) == 1
    assert capsys.readouterr().err.startswith(f"detr-onnx: error: cannot listen on {host}:0: found ")


@pytest.mark.parametrize("megapixels", ["nan", "inf", "0"])
def test_a_limit_on_pixels_that_is_no_number_is_an_error_of_one_line(capsys, megapixels):
    assert cli.main(["serve", "-m", "demo", "--max-pixels", megapixels]) == 2
    assert capsys.readouterr().err == (
        f"detr-onnx: error: --max-pixels is out of range: found {megapixels}, "
        "expected a finite number above 0, in megapixels\n"
    )


def test_without_the_extra_the_error_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(server, "NEEDED", ("starlette", "no_such_package"))
    assert cli.main(["serve"]) == 1
    assert capsys.readouterr().err == (
        "detr-onnx: error: the server needs no_such_package; run pip install 'detr-onnx[serve]'\n"
    )
