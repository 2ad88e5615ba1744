"""Connections of uvicorn, with a response of our own to what is not HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

NOT_HTTP = "The request is not valid HTTP/1.1, or its header has more than 64 kB; send it again in that form."


def http_connection(
    config: Config,
    server_state: ServerState,
    app_state: dict[str, Any],
    _loop: asyncio.AbstractEventLoop | None = None,
) -> H11Protocol:
    """A connection by h11, which limits the size of headers and rejects malformed requests.

    A body in chunks may be found malformed when the response to its request has begun, and cannot become a refusal.
    uvicorn raises an error there, which asyncio logs with its traceback; here the connection is closed.
    """
    protocol = H11Protocol(config, server_state, app_state, _loop)
    refuse = protocol.send_400_response

    def refuse_or_close(msg: str) -> None:
        if protocol.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            refuse(NOT_HTTP)
        else:
            protocol.transport.close()

    protocol.send_400_response = refuse_or_close  # type: ignore[method-assign]
    return protocol
