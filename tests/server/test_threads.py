"""Threads for the event loop: a stuck one is replaced, and nothing waits for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from detr_onnx.server.threads import DaemonThreads
from tests.server.live_server import PATIENCE_S

LIMIT_S = 0.1


def test_a_result_and_an_error_come_back():
    async def use() -> None:
        threads = DaemonThreads(2, "test", limit_s=PATIENCE_S, most_stuck=0)
        assert await threads.run(lambda: 5) == 5
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)
        while not threads.idle:  # a thread becomes idle just after it has answered
            await asyncio.sleep(0.001)
        threads.close()

    asyncio.run(use())


def test_a_job_that_is_cancelled_before_it_begins_is_not_run():
    async def use() -> None:
        threads, release, calls = DaemonThreads(1, "test", limit_s=PATIENCE_S, most_stuck=0), threading.Event(), []
        first = asyncio.create_task(threads.run(release.wait))
        second = asyncio.create_task(threads.run(lambda: calls.append(2)))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0.01)
        release.set()
        await first
        await threads.run(lambda: calls.append(3))
        assert calls == [3]

    asyncio.run(use())


def test_a_stuck_thread_fails_its_job_and_is_replaced():
    async def use() -> None:
        threads, release = DaemonThreads(1, "test", limit_s=LIMIT_S, most_stuck=1), threading.Event()
        with pytest.raises(TimeoutError):
            await threads.run(release.wait)
        assert not threads.stuck
        assert await threads.run(lambda: 5) == 5
        with pytest.raises(TimeoutError):
            await threads.run(release.wait)
        assert threads.stuck
        release.set()
        while not threads.idle:
            await asyncio.sleep(0.01)
        assert not threads.stuck
        assert await threads.run(lambda: 6) == 6
        threads.close()

    asyncio.run(use())


def test_the_replacement_and_the_stuck_thread_do_not_both_go_on():
    async def use() -> None:
        threads, release = DaemonThreads(1, "replaced", limit_s=LIMIT_S, most_stuck=3), threading.Event()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await threads.run(release.wait)
        release.set()
        while sum(thread.name == "replaced" for thread in threading.enumerate()) > 1:
            await asyncio.sleep(0.01)
        assert await threads.run(lambda: 5) == 5
        threads.close()

    asyncio.run(use())
