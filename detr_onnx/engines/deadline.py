"""Time limits for an engine's compiled code, which nothing can interrupt.

The code runs in another thread. After the limit, or at Ctrl-C, the caller goes on without it and the thread is left
running until the process ends. `end_if_stuck` then ends the process at once, because the interpreter's own exit might
wait for the thread, or crash.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from detr_onnx.errors import EngineError, ModelFileError

LOAD_S = FIRST_RUN_S = 300.0  # the latter per image; a DETR-R101 takes a few seconds, a small computer 10 times as long
POLL_S = 0.2  # so that Windows hears Ctrl-C, too

T = TypeVar("T")

_unfinished: list[threading.Event] = []  # one for each running or abandoned thread; set when it ends


def run_within(seconds: float, path: Path, what: str, work: Callable[[], T]) -> T:
    """What `work` returns, or the exception that it raises.

    Args:
        seconds: the time limit.
        path: of the graph, for the error.
        what: a verb for the error, such as "load".
        work: the function to run.

    Raises:
        ModelFileError: the limit has passed.
        EngineError: the system has no thread left.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()  # `Thread.is_alive` is wrong after an interrupted `join`, in Python 3.11

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - is raised where it is waited for
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name=what, daemon=True)
    _unfinished.append(ended)
    try:
        thread.start()
    except RuntimeError as error:
        _unfinished.remove(ended)
        remedy = "end other programs, or raise the limit of processes"
        raise EngineError(f"cannot {what} {path}", found=str(error), remedy=remedy) from error
    end = time.monotonic() + seconds
    while not ended.wait(POLL_S) and time.monotonic() < end:
        pass
    if ended.is_set():
        _unfinished.remove(ended)
    if errors:
        raise errors.pop()  # the list would keep it, and what its traceback holds, for the garbage collector
    if not results:
        raise ModelFileError(
            f"{path} does not {what} within {seconds:g} s", remedy="check where it comes from, or export it again"
        )
    return results[0]


def limit_first_run(
    seconds: float, path: Path, run: Callable[..., T], parts: Callable[..., int] = lambda *_: 1
) -> Callable[..., T]:
    """Wraps a function so that its first call has a time limit; calls at the same time wait for the first one.

    After a first call that exceeded the limit, calls are refused while it still runs: each would leave one more thread.

    Args:
        seconds: the limit for each part of the work.
        path: of the graph, for the error.
        run: the function.
        parts: takes the arguments of `run` and returns the number of parts, such as images.
    """
    has_ended, lock = False, threading.Lock()
    at_work = threading.Lock()  # held until the first call ends, also if it was given up

    def first(*arguments: object) -> T:
        with at_work:
            return run(*arguments)

    def checked(*arguments: object) -> T:
        nonlocal has_ended
        if not has_ended:
            with lock:
                if not has_ended:
                    if at_work.locked():
                        found = "its first run, which was given up, still goes on"
                        remedy = "check where it comes from, or export it again"
                        raise ModelFileError(f"{path} does not run", found=found, remedy=remedy)
                    result = run_within(seconds * parts(*arguments), path, "run", lambda: first(*arguments))
                    has_ended = True
                    return result
        return run(*arguments)

    return checked


def end_if_stuck(status: int) -> None:
    """Ends the process here if a thread that was given up still works: the interpreter might wait for it, or crash."""
    if is_any_stuck():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, AttributeError):
                stream.flush()
        os._exit(status)


def is_any_stuck() -> bool:
    """Whether a thread that was given up still works."""
    return not all(ended.is_set() for ended in _unfinished)
