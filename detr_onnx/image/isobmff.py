"""Boxes, items and bits of HEIF and AVIF files, within limits.

Sources: ISO/IEC 14496-12 (boxes), 23008-12 (items).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"iprp", b"ipco")
DEEPEST = 5  # a container in a container and so on: moov, trak, mdia, minf, stbl
MOST_UNITS = 100_000  # of all items; a picture has some dozens

Span = tuple[int, int]


class Budget:
    """What may be read of a file in all. Its numbers may send a reader to the same bytes again and again."""

    def __init__(self, most_bytes: int) -> None:
        self._bytes_left, self._units_left = most_bytes, MOST_UNITS

    def cut(self, data: bytes, first: int, length: int) -> bytes:
        """So many bytes of the data, or those up to its end."""
        end = min(first + length, len(data))
        self._bytes_left -= max(0, end - first)
        if self._bytes_left < 0:
            raise ValueError("items that overlap")
        return data[first:end]

    def count_unit(self) -> None:
        """Counts a unit of coded video: an OBU, or a NAL unit."""
        self._units_left -= 1
        if self._units_left < 0:
            raise ValueError(f"more than {MOST_UNITS} units of video")


def boxes(data: bytes, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each box, and of the boxes in `CONTAINERS`."""
    while start + 8 <= end:
        size, name, head = number(data, start, 4), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = number(data, start + 8, 8), 16
        stop = end if size == 0 else start + size
        if size != 0 and size < head:
            raise ValueError(f"a box of {size} bytes")
        yield name, start + head, min(stop, end)
        if name in CONTAINERS and depth < DEEPEST:
            yield from boxes(data, start + head, min(stop, end), depth + 1)
        start = stop


def items(data: bytes, start: int, end: int, kinds: Collection[bytes], budget: Budget) -> Iterator[bytes]:
    """The content of each item of these types in a box meta, whose own content begins at `start`."""
    found = {name: (first, last) for name, first, last in boxes(data, start, end)}
    if not {b"iinf", b"iloc"} <= found.keys():
        return
    types = dict(_item_types(data, *found[b"iinf"]))
    idat = data[slice(*found.get(b"idat", (0, 0)))]
    for item_id, in_idat, spans in _locations(data, found[b"iloc"][0]):
        if types.get(item_id) in kinds:
            source = idat if in_idat else data
            yield b"".join(budget.cut(source, first, length or len(source)) for first, length in spans)


def _item_types(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Number and type of each item."""
    count_bytes = 4 if data[start] else 2
    for name, first, _ in boxes(data, start + 4 + count_bytes, end):
        version = data[first]
        if name == b"infe" and version >= 2:
            id_bytes = 4 if version == 3 else 2
            type_at = first + 4 + id_bytes + 2
            yield number(data, first + 4, id_bytes), data[type_at : type_at + 4]


def _locations(data: bytes, start: int) -> Iterator[tuple[int, bool, list[Span]]]:
    """Number of each item, whether it lies in the box idat, and offset and length of its parts."""
    version, sizes = data[start], number(data, start + 4, 2)
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    id_bytes = 4 if version == 2 else 2
    at = start + 6 + id_bytes
    for _ in range(number(data, start + 6, id_bytes)):
        item_id, at = number(data, at, id_bytes), at + id_bytes
        method = number(data, at, 2) & 15 if version else 0
        at += (2 if version else 0) + 2  # the second number is the data reference
        base, at = number(data, at, base_bytes), at + base_bytes
        count, at = number(data, at, 2), at + 2
        if count > 1 and not offset_bytes + length_bytes:
            raise ValueError("an item in parts that are all the same")
        spans = []
        for _ in range(count):
            at += index_bytes if version else 0
            offset, length = number(data, at, offset_bytes), number(data, at + offset_bytes, length_bytes)
            spans.append((base + offset, length))
            at += offset_bytes + length_bytes
        yield item_id, method == 1, spans


def number(data: bytes, start: int, count: int) -> int:
    """A number of so many bytes; LookupError if the data ends before."""
    if start + count > len(data):
        raise LookupError("the file ends in a box")
    return int.from_bytes(data[start : start + count], "big")


class Bits:
    """Reads numbers of some bits; zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits, as a number."""
        self._left -= count
        number = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return number & ((1 << count) - 1)
