"""The one reader of JSON from outside: files, headers and metadata that anybody may have written.

Size, depth and the length of numbers are bounded before the text is parsed, so that a hostile file is refused at once
and with one of our errors. Values are checked by whoever uses them; `whole_numbers` checks shapes.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detr_onnx.errors import CheckpointError, DetrError
from detr_onnx.text import reason_of

MAX_BYTES = 4 << 20  # a config with a thousand class names has 0.1 MB
MAX_DEPTH = 32  # a config has 4; a safetensors header 3; annotations with polygons 5
MAX_DIGITS = 100  # Python writes floats with at most 17
MAX_AXES = 8  # a convolution's kernel has 4
CHUNK_BYTES = 1 << 20

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_DIGITS = b"0" * (MAX_DIGITS + 1)


def read_json(path: Path, *, error: type[DetrError] = CheckpointError, max_bytes: int = MAX_BYTES) -> Any:
    """The value in a JSON file.

    Args:
        path: a regular file in UTF-8.
        error: the class of the error to raise.
        max_bytes: the largest file that is read.

    Raises:
        error: when the file is missing, is not a regular file, is too large, or is not JSON within the bounds.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would block, /dev/zero would never end
            raise error(f"{path} cannot be read", found="not a file", remedy="check the path")
        if state.st_size > max_bytes:
            raise _too_large(error, str(path), max_bytes)
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
    except (OSError, ValueError) as failure:  # ValueError: a null character in the path
        found = reason_of(failure)
        raise error(f"{path} cannot be read", found=found, remedy="check the path") from failure
    return parse_json(text, str(path), error=error, max_bytes=max_bytes)


def parse_json(
    text: bytes | str,
    source: str,
    *,
    error: type[DetrError] = CheckpointError,
    max_bytes: int = MAX_BYTES,
    unique_names: bool = False,
) -> Any:
    """The value of a JSON text, within the bounds of size, depth and digits.

    Args:
        text: UTF-8, with or without a byte order mark.
        source: what to call the text in an error.
        error: the class of the error to raise.
        max_bytes: the longest text that is parsed.
        unique_names: refuse an object with the same name twice.

    Raises:
        error: when the text is not JSON, or exceeds a bound.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > max_bytes:
        raise _too_large(error, source, max_bytes)
    if excess := _excess(raw):
        raise error(f"{source} cannot be read as JSON", found=excess)
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unique if unique_names else None)
    except (ValueError, RecursionError) as failure:
        raise error(f"{source} cannot be read as JSON", found=str(failure)) from failure


def parse_object(text: bytes | str, source: str, *, error: type[DetrError] = CheckpointError) -> dict[str, Any]:
    """As `parse_json`, for a text that must hold an object."""
    return _checked_object(parse_json(text, source, error=error), source, error)


def read_object(path: Path, *, error: type[DetrError] = CheckpointError) -> dict[str, Any]:
    """As `read_json`, for a file that must hold an object."""
    return _checked_object(read_json(path, error=error), str(path), error)


def whole_numbers(value: Any, *, most: int = MAX_AXES, largest: int = 2**63 - 1) -> tuple[int, ...] | None:
    """The value as at most `most` integers from 0 to `largest`, such as a shape; None for anything else."""
    if not isinstance(value, list | tuple) or len(value) > most:
        return None
    if any(type(number) is not int or not 0 <= number <= largest for number in value):
        return None
    return tuple(value)


def _too_large(error: type[DetrError], source: str, max_bytes: int) -> DetrError:
    return error(f"{source} is too large", found=f"more than {max_bytes:,} bytes", expected="a JSON text")


def _checked_object(value: Any, source: str, error: Callable[..., DetrError]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise error(f"{source} is not a JSON object", found=f"a JSON {type(value).__name__}", expected="an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a name occurs twice")
    return fields


def _excess(raw: bytes) -> str:
    """Which bound the text exceeds, or nothing. Looks at what is outside of strings, a chunk at a time."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    in_string, brackets = 0, b""
    for start in range(0, len(raw), CHUNK_BYTES):
        pieces = raw[start : start + CHUNK_BYTES].split(b'"')
        outside = b'"'.join(pieces[in_string::2])
        in_string ^= (len(pieces) - 1) & 1
        if _TOO_MANY_DIGITS in outside.translate(_DIGITS_AS_ZERO):
            return f"a number of more than {MAX_DIGITS} digits"
        brackets, is_deep = _without_pairs(brackets + outside.translate(None, _NOT_BRACKETS))
        if is_deep or len(brackets) > CHUNK_BYTES:
            return f"lists and objects nested more than {MAX_DEPTH} deep"
    return ""


def _without_pairs(brackets: bytes) -> tuple[bytes, bool]:
    """The brackets without what is nested at most `MAX_DEPTH` deep, and whether something is nested deeper.

    Each pass takes the innermost pairs away; where lists and objects alternate, two levels at a time.
    """
    for _ in range(MAX_DEPTH):
        shorter = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(shorter) == len(brackets):
            return brackets, False
        brackets = shorter
    return brackets, b"[]" in brackets or b"{}" in brackets
