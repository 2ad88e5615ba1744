"""The proxy between this machine and a remote API, as the environment or the system names it."""

from __future__ import annotations

import base64
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from detr_onnx.errors import UsageError

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        headers: the credentials, if its URL has them.
    """

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def proxy_of(url: str) -> Proxy | None:
    """The proxy for a URL by HTTPS_PROXY or HTTP_PROXY, else ALL_PROXY.

    None without one, for a host that NO_PROXY names, and for this machine.

    Raises:
        UsageError: the variable does not name an HTTP proxy. The message does not show it: it may hold a password.
    """
    target, proxies = urlsplit(url), urllib.request.getproxies()
    scheme = target.scheme if target.scheme in proxies else "all"
    if scheme not in proxies or target.hostname in LOCAL_HOSTS or urllib.request.proxy_bypass(target.netloc):
        return None
    address = proxies[scheme]
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:  # a port that is not a number
        host = None
    if not host or parts.scheme != "http":
        variable, expected = f"{scheme.upper()}_PROXY", "http://host:port or http://user:password@host:port"
        raise UsageError(f"{variable} is not the address of an HTTP proxy", expected=expected)
    if parts.username is None:
        return Proxy(host, port)
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return Proxy(host, port, {"Proxy-Authorization": f"Basic {base64.b64encode(credentials).decode()}"})
