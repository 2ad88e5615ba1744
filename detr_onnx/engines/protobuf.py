"""Walks through the fields of the protobuf messages in a mapped file, which takes neither their schema nor a copy."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

VARINT, LENGTH, SIZES = 0, 2, {1: 8, 5: 4}  # wire types, and bytes of those with a fixed size
MOST_FIELDS = 2_000_000  # read of a file; a DETR-R101 has 20,000

Span = tuple[int, int]
"""Where a message begins and ends in the file."""


class TooManyFieldsError(ValueError):
    """A file has more fields than are read."""


@dataclass
class Messages:
    """The messages of a file.

    Attributes:
        data: the file.
        most_fields: that are read.
        fields: how many have been read.
    """

    data: mmap.mmap
    most_fields: int = MOST_FIELDS
    fields: int = 0

    def whole(self) -> Span:
        """The outermost message."""
        return 0, len(self.data)

    def bytes_of(self, span: Span) -> bytes:
        """The content of a text or of bytes."""
        return self.data[slice(*span)]

    def within(self, span: Span) -> Iterator[tuple[int, Span]]:
        """Number and place of each field with a length; the others are skipped.

        Raises:
            ValueError: the message is damaged.
            TooManyFieldsError: the file has too many fields.
        """
        data, (position, end) = self.data, span
        while position < end:
            self.fields += 1
            if self.fields > self.most_fields:
                raise TooManyFieldsError(f"more than {self.most_fields} parts")
            tag, position = (data[position], position + 1) if data[position] < 0x80 else self._varint(position, end)
            wire_type, length = tag & 7, 0
            if wire_type in (LENGTH, VARINT):
                value, position = self._varint(position, end)
                length = value if wire_type == LENGTH else 0
            elif wire_type in SIZES:
                length = SIZES[wire_type]
            else:
                raise ValueError("a damaged message")
            if position + length > end:
                raise ValueError("a damaged message")
            if wire_type == LENGTH:
                yield tag >> 3, (position, position + length)
            position += length

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                break
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise ValueError("a damaged message")
