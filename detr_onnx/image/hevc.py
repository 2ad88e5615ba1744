"""Sizes of the HEVC frames in a HEIF file, which may exceed its header's: libheif decodes a frame, then compares.

Sources: ISO/IEC 14496-15, section 8.3.3 (hvcC), ITU-T H.265, sections 7.3.1 and 7.3.2 (NAL units, parameter sets).
"""

from __future__ import annotations

from collections.abc import Iterator

from detr_onnx.image.isobmff import Bits, Budget, boxes, items, number

ITEM_TYPES = (b"hvc1", b"hev1")
SEQUENCE_PARAMETERS = 33  # the type of a NAL unit
HEAD_BYTES = 160  # of a parameter set, up to its size, with the profiles of seven layers
CONFIG_BYTES = 23  # of hvcC before its arrays of NAL units
MOST_ZEROS = 32  # before a number of variable length


def frame_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Width and height in each sequence parameter set of the image items, rounded up to whole blocks as they are coded.

    Raises:
        LookupError, ValueError: the file is damaged.
    """
    budget = Budget(8 * len(data))
    for name, start, end in boxes(data, 0, len(data)):
        if name == b"meta":
            for inner, first, last in boxes(data, start + 4, end):
                if inner == b"hvcC":
                    yield from _sizes(_units_of_config(budget.cut(data, first, last - first)), budget)
            for item in items(data, start + 4, end, ITEM_TYPES, budget):
                yield from _sizes(_units_of_item(item), budget)


def _units_of_config(data: bytes) -> Iterator[bytes]:
    """The NAL units of a box hvcC."""
    at = CONFIG_BYTES
    for _ in range(number(data, at - 1, 1)):
        count, at = number(data, at + 1, 2), at + 3
        for _ in range(count):
            length = number(data, at, 2)
            yield data[at + 2 : at + 2 + min(length, HEAD_BYTES)]
            at += 2 + length


def _units_of_item(data: bytes) -> Iterator[bytes]:
    """The NAL units of an image, each behind its length in four bytes."""
    at = 0
    while at + 4 <= len(data):
        length = number(data, at, 4)
        yield data[at + 4 : at + 4 + min(length, HEAD_BYTES)]
        at += 4 + length


def _sizes(units: Iterator[bytes], budget: Budget) -> Iterator[tuple[int, int]]:
    for unit in units:
        budget.count_unit()
        if unit and unit[0] >> 1 & 63 == SEQUENCE_PARAMETERS:
            yield _size(unit[2:].replace(b"\0\0\3", b"\0\0"))  # the 3 keeps start codes out of the data


def _size(parameters: bytes) -> tuple[int, int]:
    """Width and height of a sequence parameter set."""
    bits = Bits(parameters)
    bits.take(4)
    layers = bits.take(3)
    bits.take(1)
    bits.take(96)  # the profile, tier and level
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for has_profile, has_level in present:
        bits.take(88 * has_profile + 8 * has_level)
    _variable(bits)  # its number
    if _variable(bits) == 3:  # 4:4:4
        bits.take(1)
    return _variable(bits), _variable(bits)


def _variable(bits: Bits) -> int:
    """A number of variable length, Exp-Golomb: as many zeros as digits behind the first 1."""
    zeros = next((n for n in range(MOST_ZEROS) if bits.take(1)), MOST_ZEROS)
    return (1 << zeros) - 1 + bits.take(zeros)
