"""Process images in several threads, so that an error or Ctrl-C stops all of them and loses nothing that was done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from detr_onnx.bench.hosted.images import ComparedImage

Work = Callable[[ComparedImage], None]


class ImageThreads:
    """Processes images in threads.

    Args:
        open_worker: opens the function that a thread calls with each image; closed when the thread ends.
        stop: when set, no more images are begun; workers may watch it.
        show: called with the number of each image, from 1, before it is processed.
    """

    def __init__(
        self,
        open_worker: Callable[[], AbstractContextManager[Work]],
        stop: threading.Event,
        show: Callable[[int, ComparedImage], None],
    ) -> None:
        self._open_worker, self._stop, self._show = open_worker, stop, show
        self._lock, self._started = threading.Lock(), 0
        self._error: Exception | None = None

    def run(self, images: Sequence[ComparedImage], threads: int) -> None:
        """Returns when all images are processed.

        Raises:
            Exception: the first of a worker, after the images that were under way.
            KeyboardInterrupt: likewise; a second Ctrl-C does not wait for them.
        """
        remaining = iter(images)
        started: list[tuple[threading.Thread, threading.Event]] = []
        try:
            for _ in range(min(threads, len(images))):
                ended = threading.Event()
                thread = threading.Thread(target=self._work, args=(remaining, ended), daemon=True)
                started.append((thread, ended))  # before it starts: Ctrl-C may come between the two
                thread.start()
            _wait_for(started)
        except KeyboardInterrupt:
            self._stop.set()
            _wait_for(started)
            raise
        if self._error is not None:
            raise self._error

    def _work(self, remaining: Iterator[ComparedImage], ended: threading.Event) -> None:
        try:
            with self._open_worker() as work:
                while (image := self._next(remaining)) is not None:
                    work(image)
        except Exception as error:  # noqa: BLE001 - the waiting thread raises it again
            self._error = self._error or error
            self._stop.set()
        finally:
            ended.set()

    def _next(self, remaining: Iterator[ComparedImage]) -> ComparedImage | None:
        """The next image, which goes to one thread; None when there are no more, or all threads stop."""
        with self._lock:
            image = None if self._stop.is_set() else next(remaining, None)
            if image is not None:
                self._started += 1
                self._show(self._started, image)
            return image


def _wait_for(started: Sequence[tuple[threading.Thread, threading.Event]]) -> None:
    """Waits for the ends of all threads; a `Thread.join` that Ctrl-C interrupts takes its thread for ended."""
    for thread, ended in started:
        if thread.is_alive():
            ended.wait()
