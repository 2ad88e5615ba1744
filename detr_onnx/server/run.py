"""Processes and signals: listening, loading the model, serving until SIGTERM, shutting down without losing a response.

SIGTERM ──► /readyz says 503 ──► drain delay ──► no new connections; responses close theirs ──► drain time ──► end
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn

from detr_onnx.detector import Detector
from detr_onnx.engines.deadline import end_if_stuck
from detr_onnx.errors import UsageError
from detr_onnx.server import exit_on_sigterm
from detr_onnx.server.app import application
from detr_onnx.server.connection import http_connection
from detr_onnx.server.listen import BACKLOG, announce, listening
from detr_onnx.server.memory import return_freed_memory
from detr_onnx.server.observe import LINGER_S, RequestLogMiddleware
from detr_onnx.server.settings import Settings
from detr_onnx.server.threads import DaemonThreads
from detr_onnx.server.workers import stop_with_parent, supervise
from detr_onnx.signals import STOP

KEEP_ALIVE_S = 30
POLL_S = 0.5
MACOS_OPEN_FILES = 10240  # OPEN_MAX: its setrlimit refuses more, though getrlimit says that there is no limit


def serve(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; the exit status.

    Raises:
        UsageError: several workers on Windows.
        DetrError: the detector cannot be opened, or the address cannot be listened on.
    """
    if settings.workers > 1 and sys.platform == "win32":  # its asyncio cannot share a socket, nor be asked to end
        remedy = "start several servers on ports of their own, behind a reverse proxy"
        raise UsageError("--workers needs Linux or macOS", found=f"{settings.workers} on Windows", remedy=remedy)
    with listening(settings) as listener:
        if settings.workers > 1:
            work = partial(work_on, settings, listener)
            return supervise(settings.workers, work, lambda: announce(settings, listener), listener.close)
        process = serve_on(settings, listener)
    return exit_status_of(process)


def work_on(settings: Settings, listener: socket.socket, started: Any, alone: bool) -> None:
    """Runs one of several processes; see `serve_on`."""
    stop_with_parent()
    try:
        sys.exit(exit_status_of(serve_on(settings, listener, started, alone)))
    except SystemExit as end:
        end_if_stuck(int(end.code or 0))  # SIGTERM may come while the engine is loading in a thread
        raise


def serve_on(settings: Settings, listener: socket.socket, started: Any = None, alone: bool = True) -> Process:
    """Serves until a signal, in this process.

    Args:
        settings: of the server.
        listener: the listening socket.
        started: an event to set once it serves, in place of the announcement on stderr.
        alone: whether no other process serves the socket yet. Then requests get 503 until the model is loaded;
            otherwise this process accepts connections only after that.
    """
    exit_on_sigterm(at_once=not alone)  # it loads the model before it has a request to lose
    raise_file_limit()
    return_freed_memory()
    process = Process(settings, listener, started, None if alone else open_detector(settings))
    asyncio.run(process.run())
    return process


def exit_status_of(process: Process) -> int:
    """The exit status of a process that has ended its work; with a stuck thread this ends the process at once."""
    if not process.idle:  # the interpreter's own exit might wait for the thread, or crash under it
        sys.stderr.flush()
        os._exit(process.exit_status)
    return process.exit_status


def open_detector(settings: Settings) -> Detector:
    """The detector, warmed up.

    Raises:
        DetrError: it cannot be opened, or does not fit the settings.
    """
    detector = settings.open_detector()
    if settings.max_batch > 1 and detector.batch_size is not None and detector.batch_size < settings.max_batch:
        expected = f"at most {detector.batch_size}, the model's batch"
        raise UsageError("--max-batch is too large", found=str(settings.max_batch), expected=expected)
    detector.warm_up()
    return detector


def uvicorn_server(settings: Settings, app: RequestLogMiddleware) -> uvicorn.Server:
    """The HTTP server around the application."""
    config = uvicorn.Config(
        app,
        http=http_connection,  # type: ignore[arg-type]
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


@dataclass(frozen=True)
class Idle:
    """A connection that waits for its client: for a request, or for the client to read a response.

    Attributes:
        cycle: uvicorn's object for the last request; None before the first.
        unsent: bytes of responses that the client has not read yet, beyond those in the system's own buffer.
        since: when it was first seen in this state, in seconds of the monotonic clock.
    """

    cycle: Any
    unsent: int
    since: float


class Process:
    """One serving process, from loading to the last response.

    Attributes:
        exit_status: 1 if it gave up because its threads were stuck.
    """

    def __init__(self, settings: Settings, listener: socket.socket, started: Any, detector: Detector | None) -> None:
        self.exit_status = 0
        self._settings, self._listener, self._started = settings, listener, started
        self._loaded = detector is not None
        self._app, self._service = application(settings, detector)
        self._server = uvicorn_server(settings, self._app)
        self._drain: asyncio.Task[None] | None = None
        self._signals = 0  # that told the process to end

    @property
    def idle(self) -> bool:
        """Whether no thread is busy."""
        return self._loaded and self._service.inference.idle

    async def run(self) -> None:
        """Serves until a signal.

        Raises:
            DetrError: the detector cannot be opened.
        """
        self._take_signals()
        tasks = [asyncio.create_task(task()) for task in (self._load, self._look_after)]
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            for task in tasks:
                task.cancel()
            self._service.inference.close()
        if tasks[0].done() and not tasks[0].cancelled():
            tasks[0].result()  # raises the error of loading

    def _take_signals(self) -> None:
        """Handles signals in place of uvicorn, which would drop requests; not outside the main thread."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(RuntimeError, ValueError):
            for number in STOP:
                try:
                    loop.add_signal_handler(number, self._stop)
                except NotImplementedError:  # on Windows
                    signal.signal(number, lambda number, frame: loop.call_soon_threadsafe(self._stop))
            self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]

    async def _load(self) -> None:
        """Loads the model in a thread once the server runs, and tells that it serves."""
        while not self._server.started:
            await asyncio.sleep(0.01)
        if not self._loaded:
            thread = DaemonThreads(1, "load", limit_s=math.inf, most_stuck=0)
            try:
                self._service.inference.use(await thread.run(partial(open_detector, self._settings)))
            except Exception:
                self._loaded = self._server.should_exit = True
                raise
            thread.close()
            self._loaded = True
        if self._server.should_exit:  # the listener may be closed
            return
        if self._started is not None:
            self._started.set()
        else:
            announce(self._settings, self._listener)

    def _stop(self) -> None:
        """What a signal does: ends the process after its requests, or at once if it is repeated or nothing is loaded.

        A worker counts two signals as one: Ctrl-C and systemd signal every process of the server, and then the
        supervisor also passes its own signal on.
        """
        self._signals += 1
        if not self._loaded or self._signals > (2 if self._settings.workers > 1 else 1):
            self._server.force_exit = self._server.should_exit = True
        else:
            self._end_after_requests()

    def _end_after_requests(self) -> None:
        if self._drain is None:
            self._drain = asyncio.create_task(self._drained())

    async def _drained(self) -> None:
        """Shuts down: new requests are accepted for a while, then those on open connections."""
        self._service.stopping = True
        while not self._server.started:  # it has no sockets to close yet
            await asyncio.sleep(0.01)
        await asyncio.sleep(self._settings.drain_delay_s)  # 0 lets connections in that the kernel has accepted
        self._app.draining = True
        for listening_server in self._server.servers:
            listening_server.close()
        await asyncio.sleep(self._settings.drain_s)
        self._server.should_exit = True

    async def _look_after(self) -> None:
        """Closes idle connections, reports the pending requests, and ends a stuck worker so that it is replaced.

        /metrics adds up what all workers have reported last, and only one of them answers it.
        """
        idle: dict[Any, Idle] = {}
        while True:
            await asyncio.sleep(POLL_S)
            idle = self._close_idle(idle)
            self._service.metrics.pending.set(self._service.inference.pending)
            if self._settings.workers > 1 and self._service.status == "stuck":
                self.exit_status = 1
                self._end_after_requests()

    def _close_idle(self, before: dict[Any, Idle]) -> dict[Any, Idle]:
        """Closes connections that wait too long for a complete header: `idle_s` for the first, then `KEEP_ALIVE_S`.

        It also aborts those whose client reads nothing of a response for `KEEP_ALIVE_S`.

        uvicorn's own limit ends with the first byte of a header, so half a header would keep a connection open. It has
        no limit for clients that do not read.

        Args:
            before: the connections that were idle at the last look.

        Returns:
            those that are idle now. With a request or progress since the last look, a connection is idle from now on.
        """
        now = time.monotonic()
        idle: dict[Any, Idle] = {}
        for connection in self._server.server_state.connections:
            cycle = connection.cycle  # type: ignore[union-attr]
            unsent = connection.transport.get_write_buffer_size()
            if cycle is not None and not cycle.response_complete and not unsent:
                continue
            state, last = Idle(cycle, unsent, now), before.get(connection)
            if last is not None and last.cycle is cycle and last.unsent == unsent:
                state = last
            idle[connection] = state
            if now - state.since > (self._settings.idle_s if cycle is None else KEEP_ALIVE_S):
                if unsent:
                    connection.transport.abort()  # `close` would wait until the client has read all
                else:
                    connection.transport.close()
        return idle


def raise_file_limit() -> None:
    """Raises the limit on open files as far as the system allows: each connection needs one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (hard, MACOS_OPEN_FILES) if soft != hard else ():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, soft), hard))
            return
