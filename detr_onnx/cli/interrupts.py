"""Ctrl-C: a quiet end with exit status 130 at any moment, also while modules are imported."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
TERMINATED = 143  # 128 + SIGTERM

_signals: list[int] = []  # that have come


def exit_on_interrupt() -> None:
    """Ctrl-C ends the process at once; for times when it has nothing to clean up."""
    _handle(lambda number, frame: os._exit(INTERRUPTED))


def raise_on_interrupt() -> None:
    """Ctrl-C raises KeyboardInterrupt in the main thread. Where that is swallowed, `was_interrupted` tells."""
    _handle(_raise)
    sys.unraisablehook = _exit_or_report


def was_interrupted() -> bool:
    """Whether Ctrl-C has been pressed: libraries turn a KeyboardInterrupt during their import into other errors."""
    return bool(_signals)


def _handle(handler: signal._HANDLER) -> None:
    """Sets the handler, unless SIGINT is ignored, as in the background of a script."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    _signals.append(number)
    raise KeyboardInterrupt


def _exit_or_report(unraisable: sys.UnraisableHookArgs) -> None:
    """Ends the process for a KeyboardInterrupt in a destructor or callback, where Python would print and go on."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        os._exit(INTERRUPTED)
    sys.__unraisablehook__(unraisable)


@contextlib.contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """SIGTERM, as service managers and containers send it, ends the block as Ctrl-C does, with exit status 143."""
    if threading.current_thread() is not threading.main_thread():  # signals belong to that one
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    except KeyboardInterrupt:
        if signal.SIGTERM in _signals:
            raise SystemExit(TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
