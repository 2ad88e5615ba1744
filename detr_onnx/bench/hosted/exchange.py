"""One HTTP request, timed phase by phase: DNS, TCP, TLS, send, wait, transfer; and the server's own time.

lookup ─ connect ─ handshake │ send ───── wait ───── transfer
once per connection          │ each request, on a connection that is kept open
                                        └─ server time, where a response header gives it
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import re
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from detr_onnx.bench.hosted.api import RemoteApi
from detr_onnx.bench.hosted.proxy import Proxy

LARGEST_BODY = 16 << 20  # bytes; a hundred detections are 20 kB
STEPS = 3  # sending, waiting, transfer: a request may take so many times the timeout of a step
MS_PER_UNIT = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
UNITS = {
    "x-compute-time": "s",  # Hugging Face
    "x-process-time": "s",  # FastAPI's documentation
    "x-runtime": "s",  # Rails
    "x-total-time": "ms",  # Hugging Face's inference servers, as are the next two
    "x-inference-time": "ms",
    "x-queue-time": "ms",
    "x-response-time": "ms",
    "x-envoy-upstream-service-time": "ms",
}
"""Units of headers whose value is a number without one."""
TIME_HEADER = re.compile(r"(?:^|-)(?:time|duration|latency|elapsed|runtime|processing|inference|ms)(?:-|$)")
OTHER_TIMES = re.compile(r"limit|retry|reset|date|expires|max-age")
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(us|µs|ms|s)?")


@dataclass(frozen=True)
class ConnectTiming:
    """How long a connection took to open, in milliseconds.

    Attributes:
        dns_ms: looking up the host's name; 0 where a proxy does that.
        tcp_ms: one round trip to the host, or to a proxy of the provider that is nearer; opening the tunnel of a proxy.
        tls_ms: the handshake; None without TLS.
    """

    dns_ms: float
    tcp_ms: float
    tls_ms: float | None


@dataclass(frozen=True)
class Timing:
    """How long one request took, in milliseconds.

    Attributes:
        send_ms: until the request was handed to the operating system.
        wait_ms: from there to the response's status and headers: the rest of the upload, the server, one way back.
        transfer_ms: from there to the last byte.
        server_ms: the server's own time by a response header; None without one.
        connect: the connection that was opened for this request; None for one that was open.
    """

    send_ms: float
    wait_ms: float
    transfer_ms: float
    server_ms: float | None = None
    connect: ConnectTiming | None = None

    @property
    def total_ms(self) -> float:
        """Without opening the connection."""
        return self.send_ms + self.wait_ms + self.transfer_ms

    def to_dict(self) -> dict[str, Any]:
        """For JSON, to a microsecond."""
        fields: dict[str, Any] = rounded(asdict(self))
        return fields


@dataclass(frozen=True)
class Exchange:
    """A response, and how long it took."""

    status: int
    headers: Message
    body: bytes
    timing: Timing


class Connection:
    """An open connection to a remote API; for one thread.

    Raises:
        OSError, http.client.HTTPException: the host or the proxy is not found, or refuses the connection, or TLS fails.
    """

    def __init__(self, remote: RemoteApi) -> None:
        parts, proxy = urlsplit(remote.base_url), remote.proxy
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        dns_ms, tls_ms = 0.0, None
        self._origin, self._proxy_headers = "", dict[str, str]()
        if proxy is None:
            connected, dns_ms, tcp_ms = _connect(host, port, remote.timeout_s)
        elif secure:
            connected, tcp_ms = _tunnel(proxy, host, port, remote.timeout_s)
        else:
            connected, dns_ms, tcp_ms = _connect(proxy.host, proxy.port, remote.timeout_s)
            self._origin, self._proxy_headers = f"http://{parts.netloc}", proxy.headers
        if secure:
            connected, tls_ms = _handshake(connected, host)
        self._http = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(host, port)
        self._http.sock = connected
        self._limit_s = STEPS * remote.timeout_s
        self._opened: ConnectTiming | None = ConnectTiming(dns_ms, tcp_ms, tls_ms)

    @property
    def is_open(self) -> bool:
        return self._http.sock is not None

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Exchange:
        """Sends a request and reads the response.

        Raises:
            OSError, http.client.HTTPException, ValueError: there is no complete response.
        """
        with self._time_limit():
            started = time.perf_counter()
            self._http.request("POST", self._origin + path, body, {**headers, **self._proxy_headers})
            sent = time.perf_counter()
            response = self._http.getresponse()
            answered = time.perf_counter()
            content = response.read(LARGEST_BODY)
            ended = time.perf_counter()
        if not response.isclosed():
            self.close()
        server_ms = server_time_ms(response.headers.items())
        if server_ms is not None and server_ms > (ended - started) * 1e3:  # its unit is another one
            server_ms = None
        opened, self._opened = self._opened, None
        send_ms, wait_ms, transfer_ms = (sent - started) * 1e3, (answered - sent) * 1e3, (ended - answered) * 1e3
        timing = Timing(send_ms, wait_ms, transfer_ms, server_ms, opened)
        return Exchange(response.status, response.headers, content, timing)

    @contextlib.contextmanager
    def _time_limit(self) -> Iterator[None]:
        """Ends a request whose bytes come one by one, each within the socket's timeout.

        Raises:
            TimeoutError: it has taken too long.
        """
        expired = threading.Event()
        connected = self._http.sock

        def expire() -> None:
            expired.set()
            with contextlib.suppress(OSError):  # it is closed already
                socket.socket.shutdown(connected, socket.SHUT_RDWR)  # that of TLS would first say goodbye

        timer = threading.Timer(self._limit_s, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not expired.is_set():
                raise
            raise self._too_slow() from error
        finally:
            timer.cancel()
        if expired.is_set():  # the body ends where the connection was shut down
            raise self._too_slow()

    def _too_slow(self) -> TimeoutError:
        return TimeoutError(f"no complete response within {self._limit_s:g} s")

    def close(self) -> None:
        self._http.close()


def server_time_ms(headers: Iterable[tuple[str, str]]) -> float | None:
    """The server's own time by the response headers, in milliseconds; None if none gives it.

    A metric called "total" counts alone; otherwise those of `Server-Timing` are added up; otherwise the largest of the
    headers such as `X-Process-Time` or `cf-…-ms` counts. A number without a known unit does not count.
    """
    timings: dict[str, float] = {}
    others: dict[str, float] = {}
    for name, value in ((name.lower(), value) for name, value in headers):
        if name == "server-timing":
            timings.update(_server_timings(value))
        elif TIME_HEADER.search(name) and not OTHER_TIMES.search(name):
            others.update(_duration_ms(name, value))
    totals = [ms for name, ms in {**others, **timings}.items() if "total" in name]
    if totals:
        return max(totals)
    return sum(timings.values()) if timings else max(others.values(), default=None)


def rounded(value: Any) -> Any:
    """Every float of a JSON value to three digits."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def _server_timings(value: str) -> Iterator[tuple[str, float]]:
    """Metrics with a duration of a `Server-Timing` header, in milliseconds [W3C Server Timing]."""
    for metric in value.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, text = parameter.partition("=")
            matched = DURATION.fullmatch(text.strip().strip('"'))
            if key.strip().lower() == "dur" and matched:
                yield name.lower(), float(matched[1])


def _duration_ms(name: str, value: str) -> dict[str, float]:
    """The header's name and value in milliseconds; nothing without a known unit."""
    matched = DURATION.fullmatch(value.strip())
    unit = matched and (matched[2] or UNITS.get(name) or ("ms" if name.endswith("-ms") else None))
    return {name: float(matched[1]) * MS_PER_UNIT[unit]} if matched and unit else {}


def _connect(host: str, port: int, timeout_s: float) -> tuple[socket.socket, float, float]:
    """A connection to the first address that accepts one, and how many milliseconds the lookup and that took."""
    started = time.perf_counter()
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    dns_ms = (time.perf_counter() - started) * 1e3
    failure: OSError = OSError("the host has no address")
    for family, _, _, _, address in addresses:
        candidate = socket.socket(family, socket.SOCK_STREAM)
        try:
            candidate.settimeout(timeout_s)
            started = time.perf_counter()
            candidate.connect(address)
            took_ms = (time.perf_counter() - started) * 1e3
            candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            candidate.close()
            failure = error
        else:
            return candidate, dns_ms, took_ms
    raise failure


def _tunnel(proxy: Proxy, host: str, port: int, timeout_s: float) -> tuple[socket.socket, float]:
    """A connection to the host through the proxy, and how many milliseconds it took to open."""
    tunnel = http.client.HTTPConnection(proxy.host, proxy.port, timeout=timeout_s)
    tunnel.set_tunnel(host, port, proxy.headers)
    started = time.perf_counter()
    try:
        tunnel.connect()
    except (OSError, http.client.HTTPException) as error:
        tunnel.close()
        traceback.clear_frames(error.__traceback__)  # closes the response, which Python 3.10 leaves open
        raise
    return tunnel.sock, (time.perf_counter() - started) * 1e3


def _handshake(connected: socket.socket, host: str) -> tuple[ssl.SSLSocket, float]:
    """The connection with TLS, and how many milliseconds the handshake took."""
    context = _tls_context()
    started = time.perf_counter()
    try:
        secured = context.wrap_socket(connected, server_hostname=host)
    except OSError:
        connected.close()
        raise
    return secured, (time.perf_counter() - started) * 1e3


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """Made once: reading the system's certificates takes longer than a handshake."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
