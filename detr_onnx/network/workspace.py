"""Memory that is used again: fresh pages cost more than most passes over them."""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SMALL = 1 << 14  # floats; what is smaller comes from the allocator's own lists, without fresh pages
WASTE = 2  # a large buffer is not used for less than this part of it, so that two small ones find place in two
SCRATCH = 1 << 21  # floats; up to this size a buffer is used for anything that fits


class Workspace:
    """Arrays without content, taken from buffers that live as long as the workspace.

    A buffer is free again when the last view of it is gone, which its reference count tells; so an array may be kept
    for as long as it is needed, and nothing has to be given back. Not for two threads at once.
    """

    def __init__(self) -> None:
        self._buffers: list[Array] = []

    def empty(self, *shape: int) -> Array:
        """An uninitialised float32 array."""
        size = math.prod(shape)
        if size < SMALL:
            return np.empty(shape, np.float32)
        return self._buffer(size)[:size].reshape(shape)

    def padded(self, x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
        """A part of x [H,W,C], first and last row and column, which may lie outside: there it is 0."""
        (top, bottom), (left, right), (H, W, C) = rows, columns, x.shape
        out = self.empty(bottom - top, right - left, C)
        first, last, start, end = max(top, 0), min(bottom, H), max(left, 0), min(right, W)
        out[: first - top] = out[last - top :] = out[:, : start - left] = out[:, end - left :] = 0
        out[first - top : last - top, start - left : end - left] = x[first:last, start:end]
        return out

    def shrink(self) -> None:
        """Gives the largest buffer that nobody looks at back to the system; one, since to take all anew costs time."""
        largest = max((buffer for buffer in self._free() if buffer.size > SCRATCH), key=len, default=None)
        self._buffers = [buffer for buffer in self._buffers if buffer is not largest]

    def _buffer(self, size: int) -> Array:
        """The smallest free buffer that is large enough, or a new one in place of the largest free one that is not."""
        free = self._free()
        fitting = [buffer for buffer in free if size <= buffer.size <= max(WASTE * size, SCRATCH)]
        if fitting:
            return min(fitting, key=len)
        outgrown = max((buffer for buffer in free if buffer.size < size), key=len, default=None)
        self._buffers = [buffer for buffer in self._buffers if buffer is not outgrown]
        self._buffers.append(np.empty(size, np.float32))
        return self._buffers[-1]

    def _free(self) -> list[Array]:
        """The buffers that nobody looks at."""
        counts = _reference_counts(self._buffers)
        return [buffer for buffer, count in zip(self._buffers, counts, strict=True) if count == UNUSED]


def _reference_counts(buffers: list[Array]) -> list[int]:
    return [sys.getrefcount(buffer) for buffer in buffers]


UNUSED = _reference_counts([np.empty(1, np.float32)])[0]  # of a buffer that only its list knows
