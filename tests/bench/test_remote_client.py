"""The client of a remote API: requests, retries, timing, and every row of the hosted API's table of errors."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from detr_onnx.bench.hosted import exchange
from detr_onnx.bench.hosted.api import RemoteApi, RemoteApiError
from detr_onnx.bench.hosted.client import Client, Reply, RetryPolicy
from detr_onnx.bench.hosted.exchange import Connection, server_time_ms
from detr_onnx.bench.hosted.threads import ImageThreads
from tests.bench.standin_remote import CAT, HANG_UP, Scripted, StandInRemote, refusal, slow_transfer, success

TOKEN = "s3cret"
NO_WAIT = RetryPolicy(retries=5, first_s=0)


def client_of(remote: StandInRemote, policy: RetryPolicy = NO_WAIT, dialect: str = "cloudflare") -> Client:
    return Client(RemoteApi(dialect, remote.url, "@cf/model", "0123", TOKEN), policy, threading.Event())


def reply_of(remote: StandInRemote, policy: RetryPolicy = NO_WAIT) -> Reply:
    """The reply to one image."""
    client = client_of(remote, policy)
    try:
        return client.send(b"image")
    finally:
        client.close()


def test_a_request_is_the_one_that_cloudflare_documents():
    with StandInRemote() as remote:
        reply = reply_of(remote)
    (request,) = remote.requests
    assert request.path == "/client/v4/accounts/0123/ai/run/@cf/model"
    assert request.body == b"image"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert (reply.outcome, reply.detections, reply.retried) == ("answered", [CAT], ())


# Errors


@pytest.mark.parametrize(
    ("status", "code"), [(408, 3007), (429, 3036), (429, 4006), (429, 3040), (500, 3001), (503, 1)]
)
def test_a_temporary_error_is_retried(status, code):
    with StandInRemote(refusal(status, code), refusal(status, code)) as remote:
        reply = reply_of(remote)
    assert (reply.outcome, reply.retried) == ("answered", (f"{status}/{code}",) * 2)
    assert len(remote.requests) == 3


@pytest.mark.parametrize(
    ("status", "code"), [(400, 3003), (400, 3010), (400, 3011), (400, 5004), (400, 5006), (413, 3006)]
)
def test_an_error_about_the_image_is_final(status, code):
    with StandInRemote(refusal(status, code, "AiError: no")) as remote:
        reply = reply_of(remote)
    assert (reply.outcome, reply.error) == ("refused", f"{status}/{code} AiError: no")
    assert len(remote.requests) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 10000), (403, 10000), (400, 9106), (400, 6003), (400, 5007), (400, 7000), (404, 7003), (405, 7001)],
)
def test_an_error_that_every_image_would_get_raises(status, code):
    with StandInRemote(refusal(status, code)) as remote, pytest.raises(RemoteApiError, match=f"{status}/{code}"):
        reply_of(remote)
    assert len(remote.requests) == 1


def test_a_redirection_is_not_followed():
    with (
        StandInRemote(Scripted(302, b"", {"Location": "/elsewhere"})) as remote,
        pytest.raises(RemoteApiError, match="302"),
    ):
        reply_of(remote)


def test_a_used_up_allowance_raises_after_the_retries():
    with (
        StandInRemote(then=refusal(429, 3036)) as remote,
        pytest.raises(RemoteApiError, match=r"the daily allowance at .* is used up"),
    ):
        reply_of(remote, RetryPolicy(retries=2, first_s=0))
    assert len(remote.requests) == 3


def test_retries_end():
    with StandInRemote(then=refusal(500, 3001)) as remote:
        reply = reply_of(remote, RetryPolicy(retries=2, first_s=0))
    assert (reply.outcome, len(reply.retried), len(remote.requests)) == ("failed", 2, 3)


@pytest.mark.parametrize(
    "response",
    [
        HANG_UP,
        Scripted(200, b""),
        Scripted(200, b"<html>"),
        Scripted(200, b"[" * 100_000),
        Scripted(200, b'{"success": false, "errors": [{"code": 1}]}'),
        Scripted(200, b'{"success": true, "result": null}'),
        success({**CAT, "score": "high"}),
        success({**CAT, "score": float("nan")}),
        success({**CAT, "score": 87}),
        success({**CAT, "score": -0.5}),
        success({**CAT, "box": {**CAT["box"], "xmin": 10**400}}),
        Scripted(200, b"{}", {"Content-Length": "100", "Connection": "close"}),
        Scripted(200, b"-5\r\n{}\r\n", {"Transfer-Encoding": "chunked", "Connection": "close"}),
        Scripted(200, b"one\r\n{}\r\n", {"Transfer-Encoding": "chunked", "Connection": "close"}),
    ],
)
def test_a_lost_or_damaged_response_is_not_paid_for_again(response):
    with StandInRemote(response) as remote:
        reply = reply_of(remote)
    assert (reply.outcome, len(remote.requests)) == ("failed", 1)


def test_a_server_that_does_not_answer_in_time_is_a_failure():
    with StandInRemote(delay_s=0.5) as remote:
        api = RemoteApi("cloudflare", remote.url, "@cf/model", timeout_s=0.05)
        reply = Client(api, NO_WAIT, threading.Event()).send(b"image")
    assert (reply.outcome, reply.timing) == ("failed", None)
    assert reply.error.startswith("no response TimeoutError")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b""])
def test_a_response_that_never_ends_although_bytes_keep_coming_is_a_failure(head):
    with dripping(head) as address:
        api = RemoteApi("cloudflare", address, "@cf/model", timeout_s=0.1)
        client = Client(api, NO_WAIT, threading.Event())
        reply = client.send(b"image")
        client.close()
    assert (reply.outcome, reply.retried) == ("failed", ())
    assert reply.error == "no response TimeoutError: no complete response within 0.3 s"


@contextlib.contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """A server that sends a byte every hundredth of a second."""

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError), server.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(head or b"H")
            while True:
                time.sleep(0.01)
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()  # the client has hung up


def test_a_connection_that_the_server_closed_while_idle_is_opened_again():
    with StandInRemote(success(CAT), HANG_UP) as remote:
        client = client_of(remote)
        replies = [client.send(b"one"), client.send(b"two")]
        client.close()
    assert [reply.outcome for reply in replies] == ["answered", "answered"]
    assert all(reply.timing is not None and reply.timing.connect is not None for reply in replies)


# Waits


def test_waits_double_unless_retry_after_gives_them():
    policy = RetryPolicy(retries=8, first_s=1, longest_s=20)
    waits = [policy.wait_s(n, None) for n in range(8)]
    assert all(0.75 * 2**n <= wait <= 1.25 * 2**n for n, wait in enumerate(waits[:4]))
    assert max(waits) <= 20
    assert policy.wait_s(8, None) is None
    assert (policy.wait_s(0, 7), policy.wait_s(0, 0)) == (7, 0)
    assert policy.wait_s(0, 3600) is None


@pytest.mark.parametrize("after", ["0", "00", email.utils.formatdate(0, usegmt=True)])
def test_retry_after_is_seconds_or_a_date(after):
    with StandInRemote(refusal(429, 3040, Retry_After=after)) as remote:
        assert reply_of(remote, RetryPolicy(first_s=1e6, longest_s=1e6)).outcome == "answered"


@pytest.mark.parametrize(
    "after", ["soon", "-1", "1e9", "½", f"Fri, 31 Dec 9999 23:59:59 -{9**21}", "Sat, 32 Jan 0000 99:99:99", "\x00"]
)
def test_a_retry_after_that_is_neither_is_ignored_or_too_long(after):
    with StandInRemote(refusal(429, 3040, Retry_After=after)) as remote:
        assert reply_of(remote).outcome in ("answered", "failed")


# Timing


def test_the_phases_of_a_request_are_told_apart():
    """The server waits 0.2 s, of which it reports 0.15 s, and pauses 0.1 s before the body."""
    response = slow_transfer(success(CAT, Server_Timing="db;dur=50, app;dur=100"), 0.1)
    with StandInRemote(then=response, delay_s=0.2) as remote:
        client = client_of(remote)
        first, second = client.send(b"one"), client.send(b"two")
        client.close()
    assert first.timing is not None
    assert second.timing is not None
    assert second.timing.total_ms >= 300
    assert second.timing.wait_ms >= 100  # half of it: a thread may be preempted between the phases
    assert second.timing.transfer_ms >= 50
    assert second.timing.server_ms == 150
    assert second.timing.total_ms == pytest.approx(second.ms, abs=0.01)  # rounded
    assert first.timing.connect is not None
    assert first.timing.connect.tls_ms is None
    assert second.timing.connect is None  # it is kept open


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([("Server-Timing", "cfEdge;dur=12, cfOrigin;dur=300.5")], 312.5),
        ([("Server-Timing", 'cache;desc="hit"')], None),
        ([("Server-Timing", "total;dur=80, inference;dur=70")], 80),
        ([("server-timing", 'app; desc="a b" ; dur="7"'), ("Server-Timing", "db;dur=1")], 8),
        ([("X-Process-Time", "0.25")], 250),
        ([("X-Compute-Time", "0.5"), ("X-Inference-Time", "400")], 500),
        ([("X-Total-Time", "90"), ("X-Queue-Time", "200")], 90),
        ([("cf-ai-inference-ms", "33")], 33),
        ([("cf-ai-duration", "1.5s")], 1500),
        ([("cf-ai-duration", "1.5")], None),  # in which unit?
        ([("X-Response-Time", "12ms")], 12),
        ([("Retry-After", "9"), ("X-RateLimit-Reset-Time", "9s"), ("Date", "x"), ("cf-ai-neurons", "4")], None),
    ],
)
def test_the_servers_own_time_is_read_from_headers(headers, expected):
    assert server_time_ms(headers) == expected


def test_a_server_time_longer_than_the_request_is_ignored():
    with StandInRemote(success(CAT, Server_Timing="app;dur=1000000")) as remote:
        reply = reply_of(remote)
    assert reply.timing is not None
    assert reply.timing.server_ms is None


def test_the_handshake_is_timed_and_the_certificate_verified(tmp_path, monkeypatch):
    certificate = tmp_path / "certificate.pem"
    with StandInRemote() as remote:
        remote.encrypt("localhost", certificate)
        api = RemoteApi("cloudflare", remote.url.replace("http://127.0.0.1", "https://localhost"), "@cf/model")
        exchange._tls_context.cache_clear()
        with pytest.raises(RemoteApiError, match="cannot reach localhost"):
            Client(api, NO_WAIT, threading.Event()).send(b"image")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        exchange._tls_context.cache_clear()
        client = Client(api, NO_WAIT, threading.Event())
        reply = client.send(b"image")
        client.close()
        exchange._tls_context.cache_clear()
    assert reply.outcome == "answered"
    assert reply.timing is not None
    assert reply.timing.connect is not None
    assert reply.timing.connect.tls_ms is not None
    assert reply.timing.connect.tls_ms > 0


def test_a_host_of_several_addresses_is_reached_by_the_first_that_accepts(monkeypatch):
    with StandInRemote() as remote, socket.create_server(("127.0.0.1", 0)) as closed:
        port, dead = remote._server.server_port, closed.getsockname()[1]
        closed.close()
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", p)) for p in (dead, port)]
        monkeypatch.setattr(exchange.socket, "getaddrinfo", lambda *args, **kwargs: addresses)
        connection = Connection(RemoteApi("cloudflare", "http://host.example", "model"))
        assert connection.post("/", b"image", {}).status == 200
        connection.close()
        monkeypatch.setattr(exchange.socket, "getaddrinfo", lambda *args, **kwargs: addresses[:1])
        with pytest.raises(ConnectionRefusedError):
            Connection(RemoteApi("cloudflare", "http://host.example", "model"))


# Threads


def test_an_error_in_a_thread_stops_all_and_is_raised():
    done: list[int] = []
    stop = threading.Event()

    def work(number: int) -> None:
        if number == 3:
            raise ValueError("three")
        done.append(number)

    threads = ImageThreads(lambda: contextlib.nullcontext(work), stop, lambda number, image: None)
    with pytest.raises(ValueError, match="three"):
        threads.run(range(1000), 1)
    assert (done, stop.is_set()) == ([0, 1, 2], True)


def test_each_image_is_processed_once_by_one_of_the_threads():
    done: list[int] = []
    shown: list[int] = []
    threads = ImageThreads(
        lambda: contextlib.nullcontext(done.append), threading.Event(), lambda number, image: shown.append(number)
    )
    threads.run(range(200), 8)
    assert sorted(done) == [*range(200)]
    assert shown == [*range(1, 201)]


def test_a_name_that_no_host_can_have_cannot_be_reached():
    api = RemoteApi("cloudflare", "http://a..b", "@cf/model")
    with pytest.raises(RemoteApiError, match=r"cannot reach a\.\.b"):
        Client(api, RetryPolicy(), threading.Event()).send(b"image")
