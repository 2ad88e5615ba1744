"""Daemon threads that run functions for the event loop. A stuck one is replaced, and the process never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class Job:
    """A function to be called in a thread, and the future of its result."""

    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: Future[Any] = field(default_factory=Future)


class DaemonThreads:
    """A fixed number of threads, and replacements for those that are stuck.

    Python cannot stop a thread. A job that runs longer than `limit_s` fails with TimeoutError, another thread takes the
    place of its thread, and the stuck thread ends with its job or with the process.

    Args:
        count: threads that are not stuck.
        name: of the threads.
        limit_s: time after which a job counts as stuck.
        most_stuck: stuck threads that are replaced; with more, fewer than `count` are left.
    """

    def __init__(self, count: int, name: str, *, limit_s: float, most_stuck: int) -> None:
        self._count, self._name, self._limit_s, self._most_stuck = count, name, limit_s, most_stuck
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: dict[int, Job] = {}  # by number, so that a timer keeps neither a job nor its result
        self._stuck: set[int] = set()
        self._numbers = itertools.count()
        self._threads = 0
        for _ in range(count):
            self._start()

    @property
    def stuck(self) -> bool:
        """Whether all threads are stuck, so that no job would be run."""
        return len(self._stuck) >= self._threads

    @property
    def idle(self) -> bool:
        """Whether no job is running."""
        return not self._running

    def close(self) -> None:
        """Ends the threads, each after its job."""
        for _ in range(self._threads):
            self._jobs.put(None)

    async def run(self, function: Callable[[], T]) -> T:
        """The result of `function`, called in a thread. Cancelled, it is not called if it has not begun.

        Raises:
            TimeoutError: it ran longer than the limit.
        """
        return await self._submit(function)  # a local variable would close a cycle: future, error, frame

    def _submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        job = Job(function, asyncio.get_running_loop())
        self._jobs.put(job)
        return asyncio.wrap_future(job.future)

    def _start(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                number = next(self._numbers)
                self._running[number] = job
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    job.loop.call_soon_threadsafe(job.loop.call_later, self._limit_s, self._check, number)
                _call(job)
                if self._finish(number):
                    return
            del job  # or it would be kept until the next one

    def _finish(self, number: int) -> bool:
        """Whether the thread of this job has been replaced and must end."""
        with self._lock:
            del self._running[number]
            self._stuck.discard(number)
            replaced = self._threads - len(self._stuck) > self._count
            self._threads -= replaced
            return replaced

    def _check(self, number: int) -> None:
        """Called when the time of a job is over: if it is still running, fails it and replaces its thread."""
        with self._lock:
            job = self._running.get(number)
            if job is None:
                return
            self._stuck.add(number)
            if self._threads < self._count + self._most_stuck:
                self._start()
        with contextlib.suppress(InvalidStateError):
            job.future.set_exception(TimeoutError())


def _call(job: Job) -> None:
    """Calls the function; its result is dropped if the job has failed as stuck meanwhile."""
    with contextlib.suppress(InvalidStateError):
        try:
            result = job.function()
        except BaseException as error:  # noqa: BLE001 - it is raised where the job is awaited
            future = job.future
            del job  # else the error keeps this frame, this frame the job, and the job the error
            future.set_exception(error)
            del future
        else:
            job.future.set_result(result)
