"""Sizes of the AV1 frames in an AVIF file, which may exceed its header's: libavif decodes a frame, then scales it.

Source: the AV1 specification, sections 5.3 to 5.5 (OBUs).
"""

from __future__ import annotations

from collections.abc import Iterator

from detr_onnx.image.isobmff import Bits, Budget, boxes, items, number

SEQUENCE_HEADER = 1
HEADER_BYTES = 16 + 32 * 16  # of 32 operating points


def frame_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Largest width and height of the frames of each image item, and of the first frame of each track.

    Raises:
        LookupError, ValueError: the file is damaged.
    """
    offsets, lengths = [], []  # of the first sample of each track
    budget = Budget(8 * len(data))
    for name, start, end in boxes(data, 0, len(data)):
        if name == b"meta":
            for item in items(data, start + 4, end, (b"av01",), budget):
                yield from _sequence_sizes(item, budget)
        elif name in (b"stco", b"co64") and number(data, start + 4, 4):
            offsets.append(number(data, start + 8, 4 if name == b"stco" else 8))
        elif name == b"stsz":
            lengths.append(number(data, start + 4, 4) or number(data, start + 12, 4))
    for offset, length in zip(offsets, lengths, strict=False):
        yield from _sequence_sizes(budget.cut(data, offset, length), budget)


def _sequence_sizes(data: bytes, budget: Budget) -> Iterator[tuple[int, int]]:
    """Largest width and height of each sequence header in a series of OBUs."""
    at = 0
    while at < len(data):
        budget.count_unit()
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
