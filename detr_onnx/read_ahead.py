"""A loop whose next items are prepared in another thread while the current one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(prepare: Callable[[T], R], items: Iterable[T], count: int) -> Generator[tuple[T, R], None, None]:
    """Each item with what `prepare` returns for it, in order; up to `count` items are prepared ahead.

    `items` may be endless. An error of `prepare` is raised when its item is due; after it the loop ends.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(1, "detr-onnx-read-ahead") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(prepare, item)))
                if len(waiting) > count:
                    first, prepared = waiting.popleft()
                    yield first, prepared.result()
            while waiting:
                first, prepared = waiting.popleft()
                yield first, prepared.result()
        finally:
            for _, prepared in waiting:
                prepared.cancel()
