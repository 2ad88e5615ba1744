"""Mutations of bytes and of JSON values, all decided by a seeded generator."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

MOST_OPERATIONS = 6
HEADER_BYTES = 64  # half of the mutations hit the start, where most of a format's numbers are
INTERESTING = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
LONGEST = 1 << 20
REPLACED, REPLACED_WHOLE = 0.1, 0.01  # probabilities, of a value in a JSON text and of the whole text

Operation = Callable[[Random, bytearray, Sequence[bytes]], None]


def mutate_bytes(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A copy with one to `MOST_OPERATIONS` changes, at most 1 MB long.

    Args:
        random: decides everything.
        data: a valid input.
        others: valid inputs from which parts may be copied.
    """
    mutated = bytearray(data)
    for _ in range(random.randint(1, MOST_OPERATIONS)):
        random.choice(OPERATIONS)(random, mutated, others)
        del mutated[LONGEST:]
    return bytes(mutated)


def _position(random: Random, data: bytearray) -> int:
    limit = min(len(data), HEADER_BYTES) if random.random() < 0.5 else len(data)
    return random.randrange(limit) if limit else 0


def _span(random: Random, data: bytearray) -> slice:
    start = _position(random, data)
    return slice(start, start + random.choice((1, 2, 4, 8, 16, random.randint(1, 1 + len(data)))))


def _flip_bit(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    if data:
        data[_position(random, data)] ^= 1 << random.randrange(8)


def _set_bytes(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    for _ in range(random.randint(1, 8)):
        if data:
            data[_position(random, data)] = random.randrange(256)


def _set_number(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    code = random.choice(("<B", "<H", ">H", "<I", ">I"))
    value = random.choice(INTERESTING) & (2 ** (8 * struct.calcsize(code)) - 1)
    number = struct.pack(code, value)
    start = _position(random, data)
    data[start : start + len(number)] = number


def _delete(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    del data[_span(random, data)]


def _repeat(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    span = _span(random, data)
    piece, times = data[span], random.choice((1, 2, 100))
    data[span.start : span.start] = piece * min(times, LONGEST // max(len(piece), 1) + 1)


def _insert(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    start = _position(random, data)
    data[start:start] = random.randbytes(random.randint(1, 32))


def _truncate(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    del data[random.randint(0, len(data)) :]


def _splice(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = bytearray(random.choice(others))
    data[_span(random, data)] = other[_span(random, other)]


OPERATIONS: tuple[Operation, ...] = (
    *(_flip_bit, _set_bytes, _set_number, _set_number, _delete, _repeat, _insert, _truncate, _splice),
)

ODD_NAMES = ("", "x" * 1000, "\x00", "\ud800", "../x", "/dev/zero")
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 2**53 + 1, 10**400, float("nan"), float("inf"), -float("inf")),
    *("", "0", "NaN", "x" * 10_000, "\x00", "../x", "\ud800", [], {}, [[]], [None], [0] * 1000, {"": None}),
)


def mutate_json(random: Random, text: bytes, odd: Sequence[Any] = ()) -> bytes:
    """A JSON text of which one to four values are replaced, removed, renamed, nested or copied.

    Args:
        random: decides everything.
        text: valid JSON.
        odd: values that are odd in this kind of text, beside `ODD_VALUES`.
    """
    value = json.loads(text)
    for _ in range(random.randint(1, 4)):
        value = _change(random, value, odd, REPLACED_WHOLE)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def mutate_json_text(random: Random, text: bytes, others: Sequence[bytes], odd: Sequence[Any] = ()) -> bytes:
    """A JSON text whose values are changed in most cases, its bytes in the others."""
    return mutate_json(random, text, odd) if random.random() < 0.8 else mutate_bytes(random, text, others)


def _change(random: Random, value: Any, special: Sequence[Any], replaced: float = REPLACED) -> Any:
    """The value with a change somewhere in it; `replaced` is the probability that it is replaced as a whole."""
    keys: list[Any] = []
    if isinstance(value, dict | list):
        keys = [*value] if isinstance(value, dict) else [*range(len(value))]
    if not keys or random.random() < replaced:
        odd = (*ODD_VALUES, [value], {"x": value}, _nested(value, random.choice((3, 200))))
        return _copy(random.choice(special if special and random.random() < 0.5 else odd))
    key = random.choice(keys)
    if random.random() < 0.6:
        value[key] = _change(random, value[key], special)
    elif random.random() < 0.5:
        del value[key]
    elif isinstance(value, dict):
        value[random.choice((*keys, *ODD_NAMES))] = _copy(value[random.choice(keys)])
    else:
        value.append(_copy(value[key]))
    return value


def _copy(value: Any) -> Any:
    """A deep copy, of deeper values than `copy.deepcopy` takes."""
    return json.loads(json.dumps(value))


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value
