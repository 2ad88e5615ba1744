"""Processes and signals: listening, serving until SIGTERM, finishing what was begun.

SIGTERM ──► no new connections; answers close theirs ──► drain_s for requests on their way ──► the last answers ──► end
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import signal
import socket
import sys
import time
from functools import partial
from typing import Any

import uvicorn

from detr_onnx.detector import Detector
from detr_onnx.errors import DetrError, UsageError
from detr_onnx.server.app import application
from detr_onnx.server.observe import LINGER_S, RequestLogMiddleware
from detr_onnx.server.service import Service
from detr_onnx.server.settings import Settings
from detr_onnx.server.workers import supervise

BACKLOG = 2048
KEEP_ALIVE_S = 30
LOOK_S = 0.5  # between looks at connections without a request


def serve(settings: Settings) -> int:
    """Serves until it is told to end; the exit status.

    Raises:
        DetrError: the detector cannot be had, or the address not be listened on.
    """
    with listening(settings) as listener:
        if settings.workers > 1:
            work = partial(serve_on, settings, listener)
            return supervise(settings.workers, work, lambda: announce(settings, listener), listener.close)
        serve_on(settings, listener)
    return 0


def listening(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises:
        DetrError: the address is no address here, or in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[
            0
        ]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        raise DetrError(
            f"cannot listen on {place}", found=str(error), remedy="choose another --host or --port"
        ) from error
    return listener


def serve_on(settings: Settings, listener: socket.socket, started: Any = None) -> None:
    """One process: opens the detector, warms it up and serves. `started`, an event, is set once it does."""
    raise_file_limit()
    detector = settings.open_detector()
    if settings.max_batch > 1 and detector.batch_size is not None and detector.batch_size < settings.max_batch:
        raise UsageError("the model takes fewer images at a time than --max-batch", found=str(detector.batch_size))
    detector.warm_up()
    asyncio.run(run(settings, detector, listener, started))


def uvicorn_server(settings: Settings, app: RequestLogMiddleware) -> uvicorn.Server:
    """The HTTP server around the application."""
    config = uvicorn.Config(
        app,
        http="h11",  # limits headers, and is strict about the rest
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.timeout_s * 1.5 + LINGER_S),
    )
    return uvicorn.Server(config)


async def run(settings: Settings, detector: Detector, listener: socket.socket, started: Any = None) -> None:
    """Serves a detector until a signal; `started`, if given, is set in place of the announcement on stderr."""
    app, service = application(settings, detector)
    server = uvicorn_server(settings, app)
    watch = asyncio.create_task(_watch(server, listener, app, service, started))
    try:
        await server.serve(sockets=[listener])
    finally:
        watch.cancel()
        service.inference.close()


async def _watch(
    server: uvicorn.Server, listener: socket.socket, app: RequestLogMiddleware, service: Service, started: Any
) -> None:
    """Once the server runs, takes over its signals; then looks after connections that ask for nothing."""
    while not server.started:
        await asyncio.sleep(0.01)
    loop = asyncio.get_running_loop()
    drains: list[asyncio.Task[None]] = []

    def stop() -> None:
        if drains:
            server.force_exit = server.should_exit = True  # asked twice: now
        drains.append(loop.create_task(_drain(server, app, service)))

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows; a thread that is not the main one
            loop.add_signal_handler(number, stop)
    if started is not None:
        started.set()
    else:
        announce(service.settings, listener)
    await _close_idle(server, service.settings.idle_s)


async def _drain(server: uvicorn.Server, app: RequestLogMiddleware, service: Service) -> None:
    service.ready, app.draining = False, True
    await asyncio.sleep(0)  # what the kernel has accepted by now is accepted here
    for listening_server in server.servers:
        listening_server.close()
    await asyncio.sleep(service.settings.drain_s)
    server.should_exit = True


async def _close_idle(server: uvicorn.Server, idle_s: float) -> None:
    """Closes connections on which no request has been under way for `idle_s`: not begun, or half a header."""
    since: dict[Any, float] = {}
    while True:
        await asyncio.sleep(LOOK_S)
        now = time.monotonic()
        idle = [c for c in server.server_state.connections if c.cycle is None or c.cycle.response_complete]  # type: ignore[union-attr]
        since = {connection: since.get(connection, now) for connection in idle}
        for connection, start in since.items():
            if now - start > idle_s:
                connection.transport.close()


def announce(settings: Settings, listener: socket.socket) -> None:
    """A JSON line on stderr that says where the server listens."""
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    line = {"event": "listening", "url": url, "model": settings.model, "workers": settings.workers}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()


def raise_file_limit() -> None:
    """As many open files as the system lets this process have: each connection is one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
