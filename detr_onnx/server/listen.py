"""The listening socket: an address and a port, or a unix socket."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detr_onnx.errors import DetrError
from detr_onnx.image.walk import file_ids
from detr_onnx.server.settings import Settings

BACKLOG = 2048


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket, closed at the end; the file of a unix socket is removed unless another has its place.

    Raises:
        DetrError: the address does not exist here, or is in use.
    """
    path = settings.unix_socket
    listener = _on_path(path) if path is not None else _on_port(settings.host, settings.port)
    own = file_ids(path)
    try:
        with listener:
            yield listener
    finally:
        if path is not None and file_ids(path) & own:
            path.unlink(missing_ok=True)


def address_of(listener: socket.socket) -> str:
    """The URL of the server, or `unix:` and the path of its socket."""
    if listener.family == getattr(socket, "AF_UNIX", None):
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def announce(settings: Settings, listener: socket.socket) -> None:
    """Writes a JSON line to stderr that says where the server listens."""
    address = address_of(listener)
    line = {"event": "listening", "url": address, "model": settings.model, "workers": settings.workers}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()


def _on_port(host: str, port: int) -> socket.socket:
    remedy = "choose another --host or --port"
    try:
        family, _, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return _bound(family, protocol, address)
    except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name is empty or has over 63 characters
        raise DetrError(f"cannot listen on {host}:{port}", found=str(error), remedy=remedy) from error


def _on_path(path: Path) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise DetrError("this system has no unix sockets", remedy="use --host and --port")
    try:
        if _is_abandoned(path):
            path.unlink()
        return _bound(socket.AF_UNIX, 0, os.fspath(path))
    except OSError as error:
        raise DetrError(f"cannot listen on {path}", found=str(error), remedy="choose another --unix-socket") from error


def _bound(family: int, protocol: int, address: Any) -> socket.socket:
    """A socket that listens on the address; closed again if it cannot."""
    listener = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        if family != getattr(socket, "AF_UNIX", None):
            # on Windows SO_REUSEADDR would let two servers have one port
            option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_abandoned(path: Path) -> bool:
    """Whether the path is a socket on which nobody listens, as after a crash.

    Any other error than a refused connection says nothing of the kind: EAGAIN is a server with a full queue.
    """
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)  # else it would wait for a place in the queue
        return connection.connect_ex(os.fspath(path)) == errno.ECONNREFUSED
