"""Masks as run lengths: COCO's compressed form, `{"size": [height, width], "counts": text}`.

Source: `rleEncode`, `rleToString` and `rleFrString` of pycocotools.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

BITS, CONTINUES, SIGN, FIRST_CHARACTER = 5, 0x20, 0x10, 48  # of a character of the text
LAST_SHIFT = 30  # of the last character of a count of 32 bits


class Rle(TypedDict):
    """A mask: its height and width, and its runs down the columns, of zeros and ones in turn, as text."""

    size: list[int]
    counts: str


def encode(mask: Mask) -> Rle:
    """The run lengths of a mask [H,W]."""
    height, width = mask.shape
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    first = [0] if flat.size and flat[0] else []  # runs begin with zeros
    return {"size": [height, width], "counts": _text(first + counts)}


def decode(rle: Rle) -> Mask:
    """The mask [H,W] of run lengths.

    Raises:
        ValueError: the runs do not fill the mask.
    """
    height, width = rle["size"]
    runs = counts_of(rle)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape((height, width), order="F")


def area(rle: Rle) -> int:
    """The number of pixels of the mask.

    Raises:
        ValueError: the runs do not fill the mask.
    """
    return int(counts_of(rle)[1::2].sum())


def counts_of(rle: Rle) -> Ints:
    """The lengths of the runs, the first of which is of zeros.

    Raises:
        ValueError: they do not fill the mask.
    """
    counts: list[int] = []
    value = shift = 0
    for character in rle["counts"].encode("latin-1", "replace"):
        part = character - FIRST_CHARACTER
        if not 0 <= part < 2 * CONTINUES or shift > LAST_SHIFT:
            raise ValueError("the counts of a mask are not run lengths")
        value |= (part & (CONTINUES - 1)) << shift
        shift += BITS
        if not part & CONTINUES:
            value -= (1 << shift) if part & SIGN else 0
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    height, width = rle["size"]
    if shift or any(count < 0 for count in counts) or sum(counts) != height * width:
        raise ValueError("the counts of a mask do not fill it")
    return np.array(counts, np.int64)


def _text(counts: list[int]) -> str:
    """Each count, from the fourth on the difference to the last but one, in characters of five bits, lowest first."""
    characters = bytearray()
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        while True:
            part, value = value & (CONTINUES - 1), value >> BITS
            ends = value == (-1 if part & SIGN else 0)
            characters.append(part + FIRST_CHARACTER + (0 if ends else CONTINUES))
            if ends:
                break
    return characters.decode("ascii")
