"""Memory of decoded images: given back to the system, not kept by the C library."""

from __future__ import annotations

import ctypes
import os

M_MMAP_THRESHOLD = -3  # malloc.h of glibc
THRESHOLD_BYTES = 1 << 20
VARIABLE = "MALLOC_MMAP_THRESHOLD_"


def return_freed_memory() -> None:
    """Makes glibc return every block of a megabyte or more to the system when it is freed.

    By default it raises this limit to the size of the blocks that it sees freed, and keeps such blocks for each thread:
    after some images of 49 million pixels a server stays at 600 MB, with this at 180. Does nothing where the C library
    is another, or where the environment sets the limit.
    """
    if VARIABLE in os.environ or os.name != "posix":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES)
