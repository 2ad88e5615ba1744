"""Sizes of the AV1 frames in an AVIF file, which its header need not tell: libavif decodes a frame and then scales it.

Sources: ISO/IEC 14496-12 (boxes), 23008-12 (items), the AV1 specification, sections 5.3 to 5.5 (OBUs).
"""

from __future__ import annotations

from collections.abc import Iterator

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
SEQUENCE_HEADER = 1
HEADER_BYTES = 16 + 32 * 16  # of 32 operating points
MOST_OBUS = 100_000  # of all items; a picture has some dozens
DEEPEST = len(CONTAINERS)  # a container in a container and so on: moov, trak, mdia, minf, stbl

Span = tuple[int, int]


def frame_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Largest width and height of the frames of each image item, and of the first frame of each track.

    Raises:
        LookupError, ValueError: the file is damaged.
    """
    offsets, lengths = [], []  # of the first sample of each track
    budget = Budget(8 * len(data))
    for name, start, end in _boxes(data, 0, len(data)):
        if name == b"meta":
            for item in _items(data, start + 4, end, budget):
                yield from _sequence_sizes(item, budget)
        elif name in (b"stco", b"co64") and _number(data, start + 4, 4):
            offsets.append(_number(data, start + 8, 4 if name == b"stco" else 8))
        elif name == b"stsz":
            lengths.append(_number(data, start + 4, 4) or _number(data, start + 12, 4))
    for offset, length in zip(offsets, lengths, strict=False):
        yield from _sequence_sizes(budget.cut(data, offset, length), budget)


class Budget:
    """What may be read of a file in all. Its numbers may send a reader to the same bytes again and again."""

    def __init__(self, most_bytes: int) -> None:
        self._bytes_left, self._obus_left = most_bytes, MOST_OBUS

    def cut(self, data: bytes, first: int, length: int) -> bytes:
        """So many bytes of the data, or those up to its end."""
        end = min(first + length, len(data))
        self._bytes_left -= max(0, end - first)
        if self._bytes_left < 0:
            raise ValueError("items that overlap")
        return data[first:end]

    def count_obu(self) -> None:
        """Counts an OBU."""
        self._obus_left -= 1
        if self._obus_left < 0:
            raise ValueError(f"more than {MOST_OBUS} OBUs")


def _boxes(data: bytes, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each box, and of the boxes in `CONTAINERS`."""
    while start + 8 <= end:
        size, name, head = _number(data, start, 4), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = _number(data, start + 8, 8), 16
        stop = end if size == 0 else start + size
        if size != 0 and size < head:
            raise ValueError(f"a box of {size} bytes")
        yield name, start + head, min(stop, end)
        if name in CONTAINERS and depth < DEEPEST:
            yield from _boxes(data, start + head, min(stop, end), depth + 1)
        start = stop


def _items(data: bytes, start: int, end: int, budget: Budget) -> Iterator[bytes]:
    """The content of each item of type av01."""
    boxes = {name: (first, last) for name, first, last in _boxes(data, start, end)}
    if not {b"iinf", b"iloc"} <= boxes.keys():
        return
    types = dict(_item_types(data, *boxes[b"iinf"]))
    idat = data[slice(*boxes.get(b"idat", (0, 0)))]
    for item_id, in_idat, spans in _locations(data, boxes[b"iloc"][0]):
        if types.get(item_id) == b"av01":
            source = idat if in_idat else data
            yield b"".join(budget.cut(source, first, length or len(source)) for first, length in spans)


def _item_types(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Number and type of each item."""
    count_bytes = 4 if data[start] else 2
    for name, first, _ in _boxes(data, start + 4 + count_bytes, end):
        version = data[first]
        if name == b"infe" and version >= 2:
            id_bytes = 4 if version == 3 else 2
            type_at = first + 4 + id_bytes + 2
            yield _number(data, first + 4, id_bytes), data[type_at : type_at + 4]


def _locations(data: bytes, start: int) -> Iterator[tuple[int, bool, list[Span]]]:
    """Number of each item, whether it lies in the box idat, and offset and length of its parts."""
    version, sizes = data[start], _number(data, start + 4, 2)
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    id_bytes = 4 if version == 2 else 2
    at = start + 6 + id_bytes
    for _ in range(_number(data, start + 6, id_bytes)):
        item_id, at = _number(data, at, id_bytes), at + id_bytes
        method = _number(data, at, 2) & 15 if version else 0
        at += (2 if version else 0) + 2  # the second number is the data reference
        base, at = _number(data, at, base_bytes), at + base_bytes
        count, at = _number(data, at, 2), at + 2
        if count > 1 and not offset_bytes + length_bytes:
            raise ValueError("an item in parts that are all the same")
        spans = []
        for _ in range(count):
            at += index_bytes if version else 0
            offset, length = _number(data, at, offset_bytes), _number(data, at + offset_bytes, length_bytes)
            spans.append((base + offset, length))
            at += offset_bytes + length_bytes
        yield item_id, method == 1, spans


def _number(data: bytes, start: int, count: int) -> int:
    if start + count > len(data):
        raise LookupError("the file ends in a box")
    return int.from_bytes(data[start : start + count], "big")


def _sequence_sizes(data: bytes, budget: Budget) -> Iterator[tuple[int, int]]:
    """Largest width and height of each sequence header in a series of OBUs."""
    at = 0
    while at < len(data):
        budget.count_obu()
        header, at = data[at], at + 1
        at += header >> 2 & 1  # an extension
        size = len(data) - at
        if header >> 1 & 1:
            size, at = _leb128(data, at)
        if header & 0x80:  # the forbidden bit: what follows is not a series of OBUs
            return
        if header >> 3 & 15 == SEQUENCE_HEADER:
            yield _largest_size(data[at : at + min(size, HEADER_BYTES)])
        at += size


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and the position behind it."""
    value = 0
    for index in range(8):
        byte = data[at + index] if at + index < len(data) else 0
        value |= (byte & 127) << (7 * index)
        if not byte & 128:
            return value, at + index + 1
    raise ValueError("a number of more than 8 bytes")


class Bits:
    """Reads numbers of some bits; zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        number = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return number & ((1 << count) - 1)


def _largest_size(header: bytes) -> tuple[int, int]:
    """Width and height of a sequence header."""
    bits = Bits(header)
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing info
        bits.take(64)
        if bits.take(1):  # equal picture intervals, with a number of variable length
            zeros = next((n for n in range(33) if bits.take(1)), 32)
            bits.take(zeros if zeros < 32 else 0)
        if bits.take(1):  # decoder model info
            delay_bits = bits.take(5) + 1
            bits.take(42)
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:  # level
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_display_delay and bits.take(1):
            bits.take(4)
