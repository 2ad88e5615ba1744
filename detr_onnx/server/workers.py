"""Several processes that serve one socket, each with a detector of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from detr_onnx.errors import DetrError

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client adds up what processes count
LOOK_S = 0.5
RESTART_S = 1.0  # between a worker's end and its successor, so that one that always fails does not spin

Work = Callable[..., None]
"""What a worker does; called with an event that it sets once it serves. It can be pickled."""


def supervise(count: int, work: Work, announce: Callable[[], None], stop_listening: Callable[[], None]) -> int:
    """Keeps `count` processes at work until SIGTERM, then lets each finish; 0, or 1 when one ended badly.

    The first starts alone: it fills the caches that the others use, and if it cannot start, none can.

    Raises:
        DetrError: the first did not start.
    """
    with _metrics_directory() as directory, _stop_asked() as asked:
        first, started = _start(work)
        while not asked and not started.wait(LOOK_S):
            if not first.is_alive():
                raise DetrError("a worker did not start", found=f"exit status {first.exitcode}")
        workers = [first]
        if not asked:
            workers += [_start(work)[0] for _ in range(count - 1)]
            announce()
        while not asked:
            wait([worker.sentinel for worker in workers], LOOK_S)
            workers = [w if asked or w.is_alive() else _successor(work, w, directory) for w in workers]
        stop_listening()  # or connections would wait here for processes that are about to end
        return _finish(workers)


def _start(work: Work) -> tuple[BaseProcess, Any]:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks in whatever state they are
    started = context.Event()
    process = context.Process(target=work, args=(started,))
    process.start()
    return process, started


def _successor(work: Work, ended: BaseProcess, directory: str) -> BaseProcess:
    mark_process_dead(ended.pid, directory)  # type: ignore[no-untyped-call]
    time.sleep(RESTART_S)
    return _start(work)[0]


def _finish(workers: list[BaseProcess]) -> int:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()
    return 1 if any(worker.exitcode for worker in workers) else 0


@contextlib.contextmanager
def _stop_asked() -> Iterator[list[int]]:
    """The signals to end that came so far."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _metrics_directory() -> Iterator[str]:
    """A directory for the workers' counts; they learn of it by the environment."""
    with tempfile.TemporaryDirectory(prefix="detr-onnx-metrics-") as directory:
        os.environ[METRICS_DIRECTORY] = directory
        try:
            yield directory
        finally:
            del os.environ[METRICS_DIRECTORY]
