"""The progress of a job on a terminal: images, rate, failures, time left."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from detr_onnx.cli.console import live_line
from detr_onnx.text import clock

if TYPE_CHECKING:
    from detr_onnx.jobs.inputs import Inputs
    from detr_onnx.jobs.parts import Tally

REFRESH_S = 0.5


@contextlib.contextmanager
def job_progress(inputs: Inputs) -> Iterator[Callable[[Tally], None]]:
    """Yields a function that shows the tally of a job on stderr, if that is a terminal.

    The images are counted meanwhile, in another thread, unless they are in tar files or come from stdin.
    """
    if not sys.stderr.isatty():
        yield lambda tally: None
        return
    total: list[int | None] = []
    threading.Thread(target=lambda: total.append(_count(inputs)), daemon=True).start()
    start_s = shown_s = time.monotonic()
    first: list[int] = []  # rows of earlier runs

    def show(tally: Tally) -> None:
        nonlocal shown_s
        first[:] = first or [tally.rows]
        now_s = time.monotonic()
        if now_s - shown_s >= REFRESH_S:
            shown_s = now_s
            new, count = tally.rows - first[0], (total or [None])[0]
            line(progress_line(tally.rows, tally.failed, new, now_s - start_s, count))

    with live_line(shown=True) as line:
        yield show


def progress_line(rows: int, failed: int, new: int, elapsed_s: float, total: int | None) -> str:
    """Such as " 12%  1200/10000  4.1 images/s  3 failed  35:46 left".

    Args:
        rows: images that are done.
        failed: how many of them failed.
        new: how many of them were done in this run.
        elapsed_s: seconds since its start.
        total: images that there are, if known.
    """
    rate = new / elapsed_s if elapsed_s > 0 else 0.0
    parts = [f"{rows}/{total}" if total else str(rows), f"{rate:.1f} images/s", f"{failed} failed"]
    if total:
        parts.insert(0, f"{min(1.0, rows / total):4.0%}")
        if rate:
            parts.append(f"{clock(max(0, total - rows) / rate)} left")
    return "  ".join(parts)


def _count(inputs: Inputs) -> int | None:
    with contextlib.suppress(Exception):  # the job itself says what is wrong
        return inputs.count()
    return None
