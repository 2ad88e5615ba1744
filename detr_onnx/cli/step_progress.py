"""The progress of a command that has several long steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from detr_onnx.cli.console import CLEAR_LINE, live_line
from detr_onnx.text import clock, printable

BAR = 20  # characters

T = TypeVar("T")


def step_progress(title: str, items: Sequence[T]) -> Iterator[T]:
    """Yields the items of a step. stderr gets a line with its title, and on a terminal a bar below it meanwhile."""
    terminal, start_s = sys.stderr.isatty(), time.monotonic()
    sys.stderr.write(f"{CLEAR_LINE if terminal else ''}detr-onnx: {printable(title)}\n")
    sys.stderr.flush()
    with live_line(terminal) as line:
        for done, item in enumerate(items):
            line(step_line(title, done, len(items), time.monotonic() - start_s))
            yield item


def step_line(title: str, done: int, count: int, elapsed_s: float) -> str:
    """Such as "#####---------------  16/64  0:35 left  fp32 on 64 images"; before the first is done without a time."""
    filled = BAR * done // count
    left = [f"{clock(elapsed_s / done * (count - done))} left"] if done else []
    return "  ".join(["#" * filled + "-" * (BAR - filled), f"{done}/{count}", *left, printable(title)])
