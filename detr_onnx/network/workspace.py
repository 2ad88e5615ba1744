"""Memory that is reused: a fresh page costs more than most operations on it."""

from __future__ import annotations

import math
import sys
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SMALL = 1 << 14  # floats; smaller arrays come from the allocator's own lists, without fresh pages
SLACK = 32  # a buffer is longer by 1/32: the next map is often a row larger, and untouched pages cost nothing
LINE = 16  # floats in a cache line; parts begin at one


class Workspace:
    """Uninitialised arrays, taken from buffers that live as long as the workspace.

    A buffer is split into parts on demand, and free neighbours are merged again. A part is free when nothing refers to
    it any more, by its reference count; so an array may be kept as long as it is needed, and need not be returned. Not
    thread-safe.
    """

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []
        self._shrunk = False

    def empty(self, *shape: int) -> Array:
        """An uninitialised float32 array."""
        size = math.prod(shape)
        if size < SMALL:
            return np.empty(shape, np.float32)
        return self._part(size)[:size].reshape(shape)

    def padded(self, x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
        """x [H,W,C] between the given rows and columns: a view if all of them are inside x, else a copy, 0 outside."""
        (top, bottom), (left, right), (H, W, C) = rows, columns, x.shape
        if min(top, left) >= 0 and bottom <= H and right <= W:
            return x[top:bottom, left:right]
        out = self.empty(bottom - top, right - left, C)
        first, last, start, end = max(top, 0), min(bottom, H), max(left, 0), min(right, W)
        out[: first - top] = out[last - top :] = out[:, : start - left] = out[:, end - left :] = 0
        out[first - top : last - top, start - left : end - left] = x[first:last, start:end]
        return out

    def shrink_once(self) -> None:
        """Frees the largest unused buffer, but only the first time: its pages would cost each image 4 % of its time."""
        if not self._shrunk:
            self._shrink()
        self._shrunk = True

    def _shrink(self) -> None:
        """Frees the largest unused buffer; only one, since allocating all of them again costs time."""
        unused = [buffer for buffer in self._buffers if len(buffer.free()) == len(buffer.parts)]
        freed = max(unused, key=len, default=None)
        self._buffers = [buffer for buffer in self._buffers if buffer is not freed]

    def _part(self, size: int) -> Array:
        """The smallest free part that is large enough, split to size; else a new buffer in place of an unused one."""
        fitting = [
            (buffer.parts[i].size, n, i)
            for n, buffer in enumerate(self._buffers)
            for i in buffer.merged()
            if buffer.parts[i].size >= size
        ]
        if fitting:
            _, n, i = min(fitting)
            return self._buffers[n].split(i, size)
        self._shrink()
        self._buffers.append(Buffer(size + size // SLACK))
        return self._buffers[-1].split(0, size)


class Buffer:
    """Memory, divided into parts."""

    def __init__(self, size: int) -> None:
        self._whole: Array = np.empty(size, np.float32)
        self.parts = [self._view(0, size)]

    def __len__(self) -> int:
        return self._whole.size

    def free(self) -> list[int]:
        """The indices of the parts that are not in use."""
        return [i for i, count in enumerate(_reference_counts(self.parts)) if count == UNUSED]

    def split(self, i: int, size: int) -> Array:
        """A part of at least `size` floats: the start of part `i`, or all of it if too little would be left."""
        start, end = sum(part.size for part in self.parts[:i]), sum(part.size for part in self.parts[: i + 1])
        middle = start + -(-size // LINE) * LINE
        if end - middle >= SMALL:
            self.parts[i : i + 1] = [self._view(start, middle), self._view(middle, end)]
        return self.parts[i]

    def merged(self) -> list[int]:
        """Merges free parts that are neighbours, and returns the indices of the free parts."""
        free = self.free()
        if all(j - i > 1 for i, j in pairwise(free)):
            return free
        parts, start = [], 0
        for is_free, indices in groupby(range(len(self.parts)), set(free).__contains__):
            run = [self.parts[i] for i in indices]
            end = start + sum(part.size for part in run)
            parts += [self._view(start, end)] if is_free and len(run) > 1 else run
            start = end
        self.parts = parts
        return self.free()

    def _view(self, start: int, end: int) -> Array:
        """A part with a reference count of its own; views of a slice would refer to the sliced array instead."""
        return np.frombuffer(self._whole.data[start:end], np.float32)


def _reference_counts(parts: list[Array]) -> list[int]:
    return [sys.getrefcount(part) for part in parts]


UNUSED = _reference_counts([np.empty(1, np.float32)])[0]  # of a part to which only the list refers
