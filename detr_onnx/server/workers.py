"""Several processes that serve one socket, each with a detector of its own."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from detr_onnx.errors import DetrError

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client adds up what processes count
LOOK_S = 0.5
RESTART_S = 1.0  # between a worker's end and its successor, so that one that always fails does not spin

logger = logging.getLogger("detr_onnx")

Work = Callable[..., None]
"""What a worker does; called with an event that it sets once it serves. It can be pickled."""


@dataclass(frozen=True)
class Worker:
    """A process, and the event that it sets once it serves; the process finds that only while this keeps it."""

    process: BaseProcess
    started: Any


def supervise(count: int, work: Work, announce: Callable[[], None], stop_listening: Callable[[], None]) -> int:
    """Keeps `count` processes at work until SIGTERM, then lets each finish; 0, or 1 when one ended badly.

    The first starts alone: it fills the caches that the others use, and if it cannot start, none can.

    Raises:
        DetrError: the first did not start.
    """
    with _metrics_directory() as directory, _stop_asked() as asked:
        workers = [_start(work)]
        while not asked and not workers[0].started.wait(LOOK_S):
            if not workers[0].process.is_alive():
                raise DetrError("a worker did not start", found=f"exit status {workers[0].process.exitcode}")
        if not asked:
            workers += [_start(work) for _ in range(count - 1)]
            announce()
        while not asked:
            wait([worker.process.sentinel for worker in workers], LOOK_S)
            workers = [w if asked or w.process.is_alive() else _successor(work, w, directory) for w in workers]
        stop_listening()  # or connections would wait here for processes that are about to end
        return _finish(workers)


def _start(work: Work) -> Worker:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks in whatever state they are
    started = context.Event()
    process = context.Process(target=work, args=(started,))
    process.start()
    return Worker(process, started)


def _successor(work: Work, ended: Worker, directory: str) -> Worker:
    logger.warning("worker %s ended with status %s; another starts", ended.process.pid, ended.process.exitcode)
    mark_process_dead(ended.process.pid, directory)  # type: ignore[no-untyped-call]
    time.sleep(RESTART_S)
    return _start(work)


def _finish(workers: list[Worker]) -> int:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join()
    ended_well = (0, -signal.SIGTERM)  # the second: asked to end before it served
    return 0 if all(worker.process.exitcode in ended_well for worker in workers) else 1


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
