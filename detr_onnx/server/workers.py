"""Several processes that serve one socket, each with a detector of its own."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from prometheus_client import values
from prometheus_client.multiprocess import mark_process_dead

from detr_onnx.atomic import draft_directory
from detr_onnx.errors import DetrError

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client adds up the counts of all processes
POLL_S = 0.5
RESTART_S = 1.0  # before a worker is replaced, so that one that always fails does not loop at full speed

logger = logging.getLogger("detr_onnx")

Work = Callable[..., None]
"""What a worker runs: an event that it sets once it serves, and whether it is alone -> None. It can be pickled."""


@dataclass(frozen=True)
class Worker:
    """A process, and the event that it sets once it serves. The process can use the event only while this keeps it.

    Attributes:
        number: from 0; a worker that replaces another has the same.
    """

    number: int
    process: BaseProcess
    started: Any


def supervise(count: int, work: Work, announce: Callable[[], None], stop_listening: Callable[[], None]) -> int:
    """Keeps `count` processes running until SIGTERM, then lets each finish; 0, or 1 if one ended badly.

    The first starts alone: it fills the caches that the others use, and if it cannot start, none can.

    Raises:
        DetrError: the first did not start, or the system has no place for the files that processes share.
    """
    with _metrics_directory() as directory, _stop_signals() as signals:
        workers = [_start(work, 0, alone=True)]
        while not signals and not workers[0].started.wait(POLL_S):
            if not workers[0].process.is_alive():
                raise DetrError("a worker did not start", found=f"exit status {workers[0].process.exitcode}")
        if not signals:
            workers += [_start(work, number) for number in range(1, count)]
            announce()
        while not signals:
            wait([worker.process.sentinel for worker in workers], POLL_S)
            workers = [w if signals or w.process.is_alive() else _successor(work, w, directory) for w in workers]
        stop_listening()  # else connections would wait in this socket's queue for processes that are about to end
        return _finish(workers)


def stop_with_parent() -> None:
    """Sends this process SIGTERM when the process that started it ends, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _start(work: Work, number: int, *, alone: bool = False) -> Worker:
    context = multiprocessing.get_context("spawn")  # fork would copy the locks of other threads in any state
    try:
        started = context.Event()
    except OSError as error:
        raise _no_shared_files(error) from error
    process = context.Process(target=_run, args=(work, number, started, alone))
    process.start()
    return Worker(number, process, started)


def _run(work: Work, number: int, started: Any, alone: bool) -> None:
    """Runs a worker, which counts on in the files of the one it replaces: /metrics reads all files each time."""
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: number)  # type: ignore[no-untyped-call]
    work(started, alone)


def _successor(work: Work, ended: Worker, directory: str) -> Worker:
    """A worker in place of one that has ended; that one again, to be replaced later, if the system starts none now."""
    logger.warning("worker %s ended with status %s; starting another", ended.process.pid, ended.process.exitcode)
    mark_process_dead(ended.number, directory)  # type: ignore[no-untyped-call]
    time.sleep(RESTART_S)
    try:
        return _start(work, ended.number)
    except (OSError, DetrError) as error:  # no memory, processes or files are left; the other workers go on
        logger.warning("the worker cannot be started: %s; trying again", error)
        return ended


def _finish(workers: list[Worker]) -> int:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join()
    ended_well = (0, -signal.SIGTERM)  # the second: SIGTERM came before the worker handled it
    return 0 if all(worker.process.exitcode in ended_well for worker in workers) else 1


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list to which each SIGTERM and SIGINT is added."""
    signals: list[int] = []

    def add(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    before = {number: signal.signal(number, add) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _metrics_directory() -> Iterator[str]:
    """A directory for the workers' counts, which they find in the environment."""
    with contextlib.ExitStack() as stack:
        try:
            directory = os.fspath(stack.enter_context(draft_directory(Path(tempfile.gettempdir()))))
        except OSError as error:
            raise _no_shared_files(error) from error
        os.environ[METRICS_DIRECTORY] = directory
        try:
            yield directory
        finally:
            del os.environ[METRICS_DIRECTORY]


def _no_shared_files(error: OSError) -> DetrError:
    return DetrError(
        "--workers needs directories for files that processes share",
        found=str(error),
        expected="a writable /dev/shm, and a writable /tmp or TMPDIR",
        remedy="mount them (podman: --tmpfs /tmp), or serve with one worker",
    )
