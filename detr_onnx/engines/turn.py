"""One thread at a time in a network, also if the process is forked."""

from __future__ import annotations

import os
import threading

from detr_onnx.errors import EngineError


class Turn:
    """A lock, as a context manager.

    In a process that was forked while another thread held it, it would never be free; there it raises EngineError.
    """

    def __init__(self, engine: str) -> None:
        self._engine, self._lock = engine, threading.Lock()
        self._holder: int | None = None  # the process of the thread that holds it

    def __enter__(self) -> None:
        if self._holder not in (None, os.getpid()):
            raise EngineError(
                f"{self._engine} cannot compute here",
                found="a process that was forked while another thread was computing",
                remedy="start processes with the method spawn, or open the model after the fork",
            )
        self._lock.acquire()
        self._holder = os.getpid()

    def __exit__(self, *_: object) -> None:
        self._holder = None
        self._lock.release()
