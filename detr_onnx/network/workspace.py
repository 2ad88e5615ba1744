"""Memory that is used again: fresh pages cost more than most passes over them."""

from __future__ import annotations

import math
import sys
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SMALL = 1 << 14  # floats; what is smaller comes from the allocator's own lists, without fresh pages
SLACK = 32  # a buffer is longer by this part: the next map is often larger by a row, and untouched pages cost nothing
LINE = 16  # floats in a line of the processor's cache, at which parts begin


class Workspace:
    """Arrays without content, taken from buffers that live as long as the workspace.

    A buffer is cut into parts as they are wanted, and parts beside each other become one again. A part is free when
    the last view of it is gone, which its reference count tells; so an array may be kept for as long as it is needed,
    and nothing has to be given back. Not for two threads at once.
    """

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []

    def empty(self, *shape: int) -> Array:
        """An uninitialised float32 array."""
        size = math.prod(shape)
        if size < SMALL:
            return np.empty(shape, np.float32)
        return self._part(size)[:size].reshape(shape)

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
        unused = [buffer for buffer in self._buffers if len(buffer.free()) == len(buffer.parts)]
        gone = max(unused, key=len, default=None)
        self._buffers = [buffer for buffer in self._buffers if buffer is not gone]

    def _part(self, size: int) -> Array:
        """The smallest free part that is large enough, cut to size; else a new buffer, for the largest unused one."""
        for buffer in self._buffers:
            buffer.merge()
        fitting = [
            (buffer.parts[i].size, n, i)
            for n, buffer in enumerate(self._buffers)
            for i in buffer.free()
            if buffer.parts[i].size >= size
        ]
        if fitting:
            _, n, i = min(fitting)
            return self._buffers[n].cut(i, size)
        self.shrink()
        self._buffers.append(Buffer(size + size // SLACK))
        return self._buffers[-1].cut(0, size)


class Buffer:
    """Memory in parts that lie side by side and fill it."""

    def __init__(self, size: int) -> None:
        self._whole: Array = np.empty(size, np.float32)
        self.parts = [self._view(0, size)]

    def __len__(self) -> int:
        return self._whole.size

    def free(self) -> list[int]:
        """The parts that nobody looks at, by position."""
        return [i for i, count in enumerate(_reference_counts(self.parts)) if count == UNUSED]

    def cut(self, i: int, size: int) -> Array:
        """The first `size` floats of a part, as a part of their own where enough is left for another."""
        start, end = sum(part.size for part in self.parts[:i]), sum(part.size for part in self.parts[: i + 1])
        middle = start + -(-size // LINE) * LINE
        if end - middle >= SMALL:
            self.parts[i : i + 1] = [self._view(start, middle), self._view(middle, end)]
        return self.parts[i]

    def merge(self) -> None:
        """Makes one part of free ones that lie side by side."""
        free, parts, start = set(self.free()), [], 0
        for is_free, some in groupby(range(len(self.parts)), free.__contains__):
            run = [self.parts[i] for i in some]
            end = start + sum(part.size for part in run)
            parts += [self._view(start, end)] if is_free and len(run) > 1 else run
            start = end
        self.parts = parts

    def _view(self, start: int, end: int) -> Array:
        """A part that counts who looks at it; a slice would have them counted by what it is a slice of."""
        return np.frombuffer(self._whole.data[start:end], np.float32)


def _reference_counts(parts: list[Array]) -> list[int]:
    return [sys.getrefcount(part) for part in parts]


UNUSED = _reference_counts([np.empty(1, np.float32)])[0]  # of a part that only its list knows
