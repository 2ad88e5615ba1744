"""Requests to a remote API through the proxy that the environment names."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from urllib.parse import urlsplit

import pytest

from detr_onnx.bench.hosted import exchange
from detr_onnx.bench.hosted.api import RemoteApi, RemoteApiError
from detr_onnx.bench.hosted.client import Client, Reply, RetryPolicy
from detr_onnx.bench.hosted.proxy import proxy_of
from detr_onnx.errors import UsageError
from tests.bench.standin_proxy import StandInProxy
from tests.bench.standin_remote import StandInRemote

PASSWORD = "p@ss/word"
BASIC = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
URL = "https://api.example/client/v4"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    """The environment names no proxy."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def replies(url: str, count: int = 1) -> list[Reply]:
    api = RemoteApi("cloudflare", url, "@cf/model", "0123", proxy=proxy_of(url))
    with contextlib.closing(Client(api, RetryPolicy(first_s=0), threading.Event())) as client:
        return [client.send(b"image") for _ in range(count)]


def port_of(remote: StandInRemote) -> int:
    return urlsplit(remote.url).port or 0


def with_password(proxy: StandInProxy) -> str:
    return proxy.url.replace("//", "//me:p%40ss%2Fword@")


def test_https_goes_through_one_tunnel_of_the_proxy(monkeypatch, tmp_path):
    with StandInRemote() as remote, StandInProxy(port_of(remote), BASIC) as proxy:
        remote.encrypt("api.example", tmp_path / "certificate.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        exchange._tls_context.cache_clear()
        monkeypatch.setenv("HTTPS_PROXY", with_password(proxy))
        both = replies(URL, 2)
        exchange._tls_context.cache_clear()
        assert [reply.outcome for reply in both] == ["answered", "answered"]
        assert proxy.requests == ["CONNECT api.example:443"]
        assert all("proxy-authorization" not in request.headers for request in remote.requests)
    assert both[0].timing is not None
    assert both[0].timing.connect is not None
    assert both[0].timing.connect.tls_ms is not None


def test_http_is_forwarded_by_the_proxy(monkeypatch):
    with StandInRemote() as remote, StandInProxy(port_of(remote), BASIC) as proxy:
        monkeypatch.setenv("HTTP_PROXY", with_password(proxy))
        both = replies("http://api.example:81/client/v4", 2)
        assert [reply.outcome for reply in both] == ["answered", "answered"]
        assert proxy.requests == ["POST http://api.example:81/client/v4/accounts/0123/ai/run/@cf/model"] * 2
        assert remote.requests[0].headers["host"] == "api.example:81"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refused_password_is_told_and_not_shown(monkeypatch, scheme):
    with StandInProxy(1, "Basic another") as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", with_password(proxy))
        with pytest.raises(RemoteApiError, match=r"407.*user and password") as caught:
            replies(URL.replace("https", scheme))
    assert not any(secret in str(caught.value) for secret in (PASSWORD, "p%40ss", BASIC[6:]))


def test_a_proxy_that_is_not_there_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
    with pytest.raises(RemoteApiError, match=r"cannot reach api\.example through the proxy 127\.0\.0\.1: found"):
        replies(URL)


def test_a_proxy_that_does_not_speak_http_is_named(monkeypatch):
    def answer(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(b"220 mail.example ESMTP\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.getsockname()[1]}")
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        with pytest.raises(RemoteApiError, match=r"through the proxy 127\.0\.0\.1: found 220 mail"):
            replies(URL)
        thread.join()


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({}, URL, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, URL, ("proxy.example", 3128)),
        ({"https_proxy": "proxy.example:3128"}, URL, ("proxy.example", 3128)),
        ({"ALL_PROXY": "http://proxy.example"}, URL, ("proxy.example", 80)),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, URL, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "other.example, api.example"}, URL, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": ".example"}, URL, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "*"}, URL, None),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, "http://127.0.0.1:8787/client/v4", None),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, "http://[::1]:8787/client/v4", None),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_names(monkeypatch, variables, url, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_of(url)
    assert (proxy and (proxy.host, proxy.port)) == expected


@pytest.mark.parametrize(
    "address", [f"socks5://me:{PASSWORD}@proxy:1", "https://me:secret@proxy:1", "http://me:secret@:80", "proxy:port"]
)
def test_an_address_that_is_not_an_http_proxys_is_an_error_that_does_not_show_it(monkeypatch, address):
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(UsageError, match="HTTPS_PROXY is not the address of an HTTP proxy: expected") as caught:
        proxy_of(URL)
    assert "me:" not in str(caught.value)


def test_the_password_of_a_proxy_is_not_in_its_repr(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD.replace('/', '%2F')}@proxy:1")
    proxy = proxy_of(URL)
    assert proxy is not None
    assert proxy.headers == {"Proxy-Authorization": BASIC}
    assert repr(proxy) == "Proxy(host='proxy', port=1)"
