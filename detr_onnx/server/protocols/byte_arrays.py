"""JSON with long arrays of bytes, read fast: `{"image": [255, 216, …]}` gives `{"image": b"\\xff\\xd8…"}`.

An image of 4 MB is an array of 4 million numbers, and `json` makes an object of each. Here the longest array of a text
is cut out and read by numpy, and only the text around it goes through `json`.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

CHUNK_BYTES = 1 << 17  # fits into a processor's second-level cache together with its intermediate arrays
MOST_VALUES = 20_000
"""Values of a text outside its array of bytes. `json` holds the interpreter's lock for as long as it runs."""

MOST_ARRAYS = 64  # that are compared to find the longest

COMMA, SPACE, ZERO = b", 0"
LINE_BREAK = re.compile(rb",\r?\n[ \t]*")
PLACEHOLDER = b"NaN"
"""Stands in for the array: it is not JSON, but `json` passes it to `parse_constant`."""


class NotBytesError(ValueError):
    """An element of an array that is not an integer from 0 to 255: its index, and its JSON value."""

    def __init__(self, index: int, value: Any) -> None:
        super().__init__(f"element {index} is {value!r}, expected an integer from 0 to 255")
        self.index, self.value = index, value


def loads(text: bytes, most_values: int = MOST_VALUES) -> Any:
    """As `json.loads`, but the longest array comes as `bytes` if all its elements are integers from 0 to 255.

    An empty array and an array of other values come as lists.

    Raises:
        NotBytesError: an array of more than `most_values` has another element.
        ValueError: the text is not JSON in UTF-8, or has more than `most_values` values beside the bytes.
    """
    start, end = longest_array(text)
    wrong = None
    if end > start and PLACEHOLDER not in text[:start] and PLACEHOLDER not in text[end:]:
        try:
            data = byte_array(text[start:end])
        except NotBytesError as error:
            data, wrong = None, error
        if data is not None:
            constants = [data]
            value = _loads(text[: start - 1] + PLACEHOLDER + text[end + 1 :], most_values, constants)
            if not constants:  # else the brackets stood in a string
                return value
    if wrong is not None and text.count(b",", start, end) > most_values:
        raise wrong
    return _loads(text, most_values, [])


def longest_array(text: bytes) -> tuple[int, int]:
    """The start and end of the inside of the longest innermost array; (0, 0) if there is none.

    Only the first `MOST_ARRAYS` are compared. Brackets in a string are taken for an array, which `loads` notices.
    """
    longest, after = (0, 0), 0
    for _ in range(MOST_ARRAYS):
        end = text.find(b"]", after)
        if end < 0:
            break
        start = text.rfind(b"[", after, end) + 1
        if start and end - start > longest[1] - longest[0]:
            longest = start, end
        after = end + 1
    return longest


def _loads(text: bytes, most_values: int, constants: list[bytes]) -> Any:
    """`json.loads`, strict; each NaN in the text is replaced by an element of `constants`, until there are none."""
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > most_values:
        raise ValueError(f"it has more than {most_values} values")

    def constant(name: str) -> bytes:
        if name != PLACEHOLDER.decode() or not constants:
            raise ValueError(f"{name} is not JSON")
        return constants.pop()

    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def byte_array(items: bytes) -> bytes | None:
    """The bytes that the inside of a JSON array lists, such as `255, 216, 47.0`; None if it is empty or not JSON.

    Raises:
        NotBytesError: an element is not an integer from 0 to 255.
    """
    parts: list[bytes] = []
    start = 0
    while start <= len(items):
        end = len(items)
        if start + CHUNK_BYTES < end:
            end = items.rfind(b",", start, start + CHUNK_BYTES)
        if end < 0:  # one value fills the chunk
            return None
        chunk = items[start:end]
        try:
            parts.append(_short_numbers(chunk) or _any_numbers(chunk))
        except NotBytesError as error:
            raise NotBytesError(sum(map(len, parts)) + error.index, error.value) from error
        except (ValueError, RecursionError):
            return None
        start = end + 1
    return b"".join(parts) if parts != [b""] else None


def _short_numbers(items: bytes) -> bytes | None:
    """The bytes listed by a text such as `255,216,0` or `255, 216, 0`; None for any other text."""
    text = np.frombuffer(b"000" + _plain(items + b","), np.uint8)  # so that three characters precede each comma
    ends = np.flatnonzero(text == COMMA)
    starts = np.concatenate(([3], ends[:-1] + 1))
    starts += text.take(starts) == SPACE
    if (ends - starts).max() > 3:
        return None
    lengths = (ends - starts).astype(np.uint8)
    digits = text - np.uint8(ZERO)  # any other character becomes 10 or more
    ones, tens, hundreds = (digits.take(ends - place) for place in (1, 2, 3))
    tens *= lengths > 1
    hundreds *= lengths > 2
    values = hundreds * np.uint16(100) + tens * np.uint16(10) + ones
    are_digits = max(ones.max(), tens.max(), hundreds.max()) < 10
    without_leading_zeros = np.array_equal(lengths, np.uint8(1) + (values > 9) + (values > 99))
    return values.astype(np.uint8).tobytes() if are_digits and without_leading_zeros and values.max() < 256 else None


def _plain(items: bytes) -> bytes:
    """The same numbers without the `.0` of floats and without the line breaks of pretty-printers."""
    if b"." in items:
        items = items.replace(b".0,", b",")
    if b"\n" in items and (indent := LINE_BREAK.search(items)):
        items = items.strip(b" \t\r\n").replace(indent[0], b",")
    return items


def _any_numbers(items: bytes) -> bytes:
    """As `_short_numbers`, for every way in which JSON writes numbers."""
    values = json.loads(b"[" + items + b"]")
    if wrong := first_wrong(values):
        raise wrong
    return bytes(map(int, values))


def first_wrong(items: list[Any]) -> NotBytesError | None:
    """The first element that is not an integer from 0 to 255; 47.0 is one, true is not."""
    for index, value in enumerate(items):
        if type(value) not in (int, float) or not 0 <= value <= 255 or value != int(value):
            return NotBytesError(index, value)
    return None
