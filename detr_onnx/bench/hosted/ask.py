"""A far side is asked about many images, several at a time, and each reply is in the journal at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from detr_onnx.bench.hosted.client import Client, RemoteApi, RetryPolicy
from detr_onnx.bench.hosted.images import HostedImage
from detr_onnx.bench.hosted.journal import Journal

Show = Callable[[int, str], None]
"""Called with the number and the name of the next image."""


def unsettled(photographs: Sequence[HostedImage], far: RemoteApi, journal: Journal) -> list[HostedImage]:
    """The images that have to be asked about still, equal ones once."""
    return list({one.sha256: one for one in photographs if not journal.settled(one.sha256, far)}.values())


def ask_all(
    photographs: Sequence[HostedImage],
    far: RemoteApi,
    patience: RetryPolicy,
    journal: Journal,
    concurrency: int,
    show: Show,
) -> None:
    """Asks about every image; the first goes alone, so that a token that is refused is refused once.

    Raises:
        FarSideError: the far side will not answer any more; what it had answered is in the journal.
        OutputError: the journal cannot be written.
        KeyboardInterrupt: after the replies that were under way; a second one does not wait for them.
    """
    asking = Asking(far, patience, journal, show)
    asking.run(photographs[:1], 1, 1 if concurrency == 1 else None)
    asking.run(photographs[1:], concurrency, concurrency)


class Asking:
    """What the threads of a run share.

    Attributes:
        stop: set when nothing more is to be asked.
        trouble: why, if it was not the user who wished so.
    """

    def __init__(self, far: RemoteApi, patience: RetryPolicy, journal: Journal, show: Show) -> None:
        self.far, self.patience, self.journal, self.show = far, patience, journal, show
        self.stop = threading.Event()
        self.trouble: Exception | None = None
        self._lock = threading.Lock()
        self._asked = 0

    def run(self, photographs: Sequence[HostedImage], threads: int, noted: int | None) -> None:
        """Asks about the images.

        Args:
            photographs: equal ones once.
            threads: requests at a time.
            noted: the same for the journal; None for times that do not count.
        """
        left: Iterator[HostedImage] = iter(photographs)
        clients: list[tuple[threading.Thread, threading.Event]] = []
        try:
            for _ in range(min(threads, len(photographs))):
                end = threading.Event()
                client = threading.Thread(target=self._client, args=(left, noted, end), daemon=True)
                clients.append((client, end))  # before it starts: Ctrl-C may come between the two
                client.start()
            _await(clients)
        except KeyboardInterrupt:
            self.stop.set()
            _await(clients)
            raise
        if self.trouble is not None:
            raise self.trouble

    def _client(self, left: Iterator[HostedImage], noted: int | None, end: threading.Event) -> None:
        """One thread: an image after the other, until there are no more or all stop."""
        caller = Client(self.far, self.patience, self.stop)
        try:
            while (photograph := self._next(left)) is not None:
                reply = caller.ask(photograph.read())
                self.journal.note(photograph.sha256, self.far, reply, noted)
        except Exception as error:  # noqa: BLE001 - it is raised again, by the thread that waits
            self.trouble = self.trouble or error
            self.stop.set()
        finally:
            caller.close()
            end.set()

    def _next(self, left: Iterator[HostedImage]) -> HostedImage | None:
        with self._lock:
            photograph = None if self.stop.is_set() else next(left, None)
            if photograph is not None:
                self._asked += 1
                self.show(self._asked, photograph.name)
            return photograph


def _await(clients: Sequence[tuple[threading.Thread, threading.Event]]) -> None:
    """Returns when all that began have ended; a `Thread.join` that Ctrl-C interrupts takes its thread for ended."""
    for client, end in clients:
        if client.is_alive():
            end.wait()
