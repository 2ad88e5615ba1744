"""JSON in which long arrays of bytes are read fast: `{"image": [255, 216, …]}` gives `{"image": b"\\xff\\xd8…"}`.

An image of 4 MB is an array of 4 million numbers. A general parser makes an object of each; here the longest array of
a text is cut out and read by numpy, and only what is around it goes through `json`.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 17  # what fits into a processor's second cache together with its intermediate values
MOST_VALUES = 20_000
"""Values of a text outside of its array of bytes. A general parser holds the interpreter for as long as it runs."""

MOST_LOOKED_AT = 64

COMMA, SPACE = ord(","), ord(".")  # a space is written as a dot: its own low half is that of 0
SPACE_AS_DOT = bytes.maketrans(b" ", bytes([SPACE]))
NOT_A_BYTE = 0xFFFF
WRONG = b"?"
LOOKBACK = 4  # characters before a comma that tell the number there: three digits, and one more to see that it is over
BLANKS = b" \t\n\r"
PLACE = b"NaN"  # no JSON, yet `json` passes it to a function of ours


class NotBytesError(ValueError):
    """An element of an array that is no integer from 0 to 255: which one, and its JSON value."""

    def __init__(self, index: int, value: Any) -> None:
        super().__init__(f"element {index} is {value!r}, expected an integer from 0 to 255")
        self.index, self.value = index, value


def loads(text: bytes, most_values: int = MOST_VALUES) -> Any:
    """As `json.loads`, with the longest array as `bytes` if it holds integers from 0 to 255 and nothing else.

    An array that is empty, or has values of another kind, comes as a list as ever.

    Raises:
        NotBytesError: an array of more than `most_values` holds something else; which, and where.
        ValueError: it is not JSON in UTF-8, or has more than `most_values` values beside the bytes.
    """
    start, end = longest_array(text)
    wrong = None
    if end > start and PLACE not in text[:start] and PLACE not in text[end:]:
        try:
            found = byte_array(text[start:end])
        except NotBytesError as error:
            found, wrong = None, error
        if found is not None:
            values = [found]
            rest = text[: start - 1] + PLACE + text[end + 1 :]
            value = _loads(rest, most_values, values)
            if not values:
                return value
    if wrong is not None and text.count(b",", start, end) > most_values:
        raise wrong
    return _loads(text, most_values, [])


def longest_array(text: bytes) -> tuple[int, int]:
    """Where the inside of the longest array without arrays in it starts and ends; (0, 0) for none.

    Only the first `MOST_LOOKED_AT` are compared. A bracket in a string may mislead it, which `loads` notices.
    """
    longest, after = (0, 0), 0
    for _ in range(MOST_LOOKED_AT):
        end = text.find(b"]", after)
        start = text.rfind(b"[", after, end) + 1 if end >= 0 else 0
        if end < 0:
            break
        if start and end - start > longest[1] - longest[0]:
            longest = start, end
        after = end + 1
    return longest


def _loads(text: bytes, most_values: int, constants: list[bytes]) -> Any:
    """`json.loads`, strict, each NaN taken from `constants` until there is none left."""
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > most_values:
        raise ValueError(f"it has more than {most_values} values")

    def constant(name: str) -> bytes:
        if name != PLACE.decode() or not constants:
            raise ValueError(f"{name} is not JSON")
        return constants.pop()

    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def byte_array(items: bytes) -> bytes | None:
    """The bytes that the inside of a JSON array lists, such as `255, 216, 47.0`; None if it is none or is empty.

    Raises:
        NotBytesError: it lists something else too.
    """
    parts: list[bytes] = []
    start = 0
    while start <= len(items):
        end = len(items)
        if start + CHUNK_BYTES < end:
            end = items.rfind(b",", start, start + CHUNK_BYTES)
        if end < 0:  # one value as long as that
            return None
        chunk = items[start:end]
        try:
            part = _chunk(_tidied(chunk + b",")) or _slowly(chunk)
        except NotBytesError as error:
            raise NotBytesError(sum(map(len, parts)) + error.index, error.value) from error
        except (ValueError, RecursionError):
            return None
        parts.append(part)
        start = end + 1
    return b"".join(parts) if parts != [b""] else None


def _slowly(items: bytes) -> bytes:
    """As `_chunk`, whatever JSON's way to write the numbers."""
    values = json.loads(b"[" + items + b"]")
    if wrong := first_wrong(values):
        raise wrong
    return bytes(map(int, values))


def _tidied(items: bytes) -> bytes:
    """The same as numbers, commas, and at most a space, as SPACE, after a comma; what is wrong stays wrong."""
    if b"." in items:
        if any(bytes([blank]) + b".0" in items for blank in BLANKS):
            return WRONG
        items = items.replace(b".0,", b",")
        if b"." in items:
            return WRONG
    blanks = [blank for blank in BLANKS if blank in items]
    if not blanks:
        return items
    if blanks == [ord(" ")] and _spaces_follow_commas(spaced := items.translate(SPACE_AS_DOT)):
        return spaced  # Python's own way to write arrays
    joined = items.translate(None, BLANKS)  # a number a line, as JSON.stringify indents them
    return joined if _numbers(joined) == _numbers(items) else WRONG


def _numbers(items: bytes) -> int:
    """How many runs of digits there are."""
    digits = np.frombuffer(b"," + items, np.uint8) - np.uint8(ord("0")) < 10
    return int(np.count_nonzero(digits[1:] > digits[:-1]))


def _spaces_follow_commas(items: bytes) -> bool:
    characters = np.frombuffer(items, np.uint8)
    after_comma = characters[:-1] == COMMA
    return bool(((characters[1:] == SPACE) <= after_comma).all())


def _chunk(items: bytes) -> bytes | None:
    """The bytes of a text `255,216,`, read at each comma by the four characters before it."""
    padded = np.frombuffer(b",,,," + items, np.uint8)
    characters = padded[LOOKBACK:]
    (ends,) = np.nonzero(characters == COMMA)
    others = np.count_nonzero(characters - np.uint8(ord("0")) < 10) + np.count_nonzero(characters == SPACE)
    if others + len(ends) != len(characters):
        return None
    before = np.ndarray((len(characters),), "<u4", padded, strides=(1,))[ends]  # the four before each comma
    before &= np.uint32(0x0F0F0F0F)
    before |= before >> np.uint32(4)
    before &= np.uint32(0x00FF00FF)
    before |= before >> np.uint32(8)
    before &= np.uint32(0xFFFF)
    values = _values_by_nibbles()[before]
    return None if values.max() == NOT_A_BYTE else values.astype(np.uint8).tobytes()


@functools.cache
def _values_by_nibbles() -> NDArray[np.uint16]:
    """[65536]: what the low halves of four characters spell, the last in the highest place; else NOT_A_BYTE."""
    table = np.full((16, 16, 16, 16), NOT_A_BYTE, np.uint16)  # last, second, first, the one before
    for value in range(256):
        for start in (COMMA & 15, SPACE & 15):
            digits = tuple(int(digit) for digit in reversed(str(value)))
            table[(*digits, start)] = value  # and anything before that
    return table.reshape(-1)


def first_wrong(items: list[Any]) -> NotBytesError | None:
    """The first element that is no integer from 0 to 255; 47.0 is one, true is none."""
    for index, value in enumerate(items):
        if type(value) not in (int, float) or not 0 <= value <= 255 or value != int(value):
            return NotBytesError(index, value)
    return None
