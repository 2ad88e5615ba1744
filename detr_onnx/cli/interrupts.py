"""Ctrl-C: a quiet end with exit status 130 at any moment, also while modules are imported."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import TYPE_CHECKING

from detr_onnx.signals import STOP, TERMINATION

if TYPE_CHECKING:
    from detr_onnx.errors import DetrError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
TERMINATED = 143  # 128 + SIGTERM
AGAIN_S = 0.02

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


def _raise(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt; a little later while a compiled module is being loaded, which some do not survive."""
    _signals.append(number)
    if _is_loading_compiled_module(frame):
        timer = threading.Timer(AGAIN_S, _thread.interrupt_main)
        timer.daemon = True
        timer.start()
        return
    raise KeyboardInterrupt


def _is_loading_compiled_module(frame: FrameType | None) -> bool:
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False


def _exit_or_report(unraisable: sys.UnraisableHookArgs) -> None:
    """Ends the process for a KeyboardInterrupt in a destructor or callback, where Python would print and go on."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        os._exit(INTERRUPTED)
    sys.__unraisablehook__(unraisable)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """Yields the list of the signals that have come: the first Ctrl-C or SIGTERM only joins it, the next one raises.

    For work that has something to finish before it ends.
    """
    stopped: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if stopped:
            _raise(number, frame)
        stopped.append(number)

    numbers = [n for n in STOP if signal.getsignal(n) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """SIGTERM, as service managers and containers send it, ends the block as Ctrl-C does, with exit status 143."""
    if threading.current_thread() is not threading.main_thread():  # signals belong to that one
        yield
        return
    before = {number: signal.signal(number, _raise) for number in TERMINATION}
    try:
        yield
    except KeyboardInterrupt:
        if not set(TERMINATION).isdisjoint(_signals):
            raise SystemExit(TERMINATED) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def error_unless_interrupted(name: str, error: Exception) -> DetrError:
    """The error to show for whatever went wrong with an image; KeyboardInterrupt if that was Ctrl-C."""
    if was_interrupted():
        raise KeyboardInterrupt from error
    from detr_onnx.unexpected_errors import error_of_image

    return error_of_image(name, error)
