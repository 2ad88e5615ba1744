"""How a measured process ended, in one line: its exit status or signal, and the last line of its stderr."""

from __future__ import annotations

import signal
from typing import BinaryIO

from detr_onnx.text import printable

LONGEST_LINE = 200
TAIL_BYTES = 4000  # of stderr, in which its last line is looked for


def how_it_ended(status: int) -> str:
    """An exit status in words; a negative one is the signal that killed the process, as `subprocess` reports it."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"killed by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")


def last_line(stderr: bytes | str) -> str:
    """The last line that is not empty, shortened; empty if there is none."""
    text = stderr if isinstance(stderr, str) else stderr.decode("utf-8", "replace")
    lines = text.strip().splitlines()
    return printable(lines[-1].strip())[:LONGEST_LINE] if lines else ""


def tail_of(file: BinaryIO) -> bytes:
    """The end of what a process has written to a file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL_BYTES))
    return file.read()
