"""A loop whose next items are prepared in other threads: while the current one is used, or between two uses.

A network that keeps every core busy is slowed by preparation beside it: its threads wait for each other after each
operation, so one that has to share its core holds up all. Measured on two cores, nothing of the preparation was hidden.
Several items prepared at once, while the network waits, cost their share of the cores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # items that are prepared while one is used; more only take memory
MOST_AT_ONCE = 4


def usable_cores() -> int:
    """The cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def read_ahead(
    prepare: Callable[[T], R], items: Iterable[T], *, meanwhile: bool = True
) -> Generator[tuple[T, R], None, None]:
    """Each item with what `prepare` returns for it, in order.

    `items` may be endless: at most `MOST_AT_ONCE` are prepared ahead. An error of `prepare` is raised when its item is
    due, and one of `items` after the results of the items before it; then the loop ends.

    Args:
        prepare: called in another thread; from several at once unless `meanwhile`.
        items: what to prepare.
        meanwhile: prepare one after another while the caller uses the current one. Otherwise as many as there are cores
            are prepared at once, and none while the caller uses them.
    """
    failures: list[Exception] = []
    items = _until_failure(items, failures)
    yield from _meanwhile(prepare, items) if meanwhile else _at_once(prepare, items)
    if failures:
        raise failures.pop()


def _until_failure(items: Iterable[T], failures: list[Exception]) -> Generator[T, None, None]:
    """The items; an error in getting the next one ends them, and is kept for later."""
    try:
        for item in items:  # noqa: UP028 - `yield from` would close a generator of the caller's
            yield item
    except Exception as error:  # noqa: BLE001 - whatever fails there, the caller gets it
        failures.append(error)


def _meanwhile(prepare: Callable[[T], R], items: Iterable[T]) -> Generator[tuple[T, R], None, None]:
    from concurrent.futures import ThreadPoolExecutor  # 1 MB, which one image does not need

    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(1, "detr-onnx-read-ahead") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(prepare, item)))
                if len(waiting) > AHEAD:
                    first, prepared = waiting.popleft()
                    yield first, prepared.result()
            while waiting:
                first, prepared = waiting.popleft()
                yield first, prepared.result()
        finally:
            for _, prepared in waiting:
                prepared.cancel()


def _at_once(prepare: Callable[[T], R], items: Iterable[T]) -> Generator[tuple[T, R], None, None]:
    from concurrent.futures import ThreadPoolExecutor, wait

    remaining, count = iter(items), max(2, min(usable_cores(), MOST_AT_ONCE))
    with ThreadPoolExecutor(count, "detr-onnx-read-ahead") as pool:
        while some := list(islice(remaining, count)):
            prepared = [pool.submit(prepare, item) for item in some]
            wait(prepared)
            for item, result in zip(some, prepared, strict=True):
                yield item, result.result()
