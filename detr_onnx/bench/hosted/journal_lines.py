"""The lines of a journal, and whether a line read from a file is one.

A journal may have been edited, or be another program's file. Its lines are checked once, so that whoever uses them need
not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from detr_onnx.bench.hosted.responses import parse_detections

Line = Mapping[str, Any]
Check = Callable[[Any], bool]

KEY = ("sha256", "dialect", "base_url", "model")
ANSWER, LATENCY = "answer", "latency"
OUTCOMES = ("answered", "refused", "failed")
LARGEST = 1e12  # milliseconds are 30 years


def checked_line(value: Any) -> Line | None:
    """The line, its detections without unknown keys; None if the value is not a journal's line."""
    fields = FIELDS.get(value["kind"]) if isinstance(value, dict) and isinstance(value.get("kind"), str) else None
    if fields is None or not all(name in value and check(value[name]) for name, check in fields.items()):
        return None
    line = {"timing": None, "same_answer": None, **value}
    if not _is_timing(line["timing"]) or line["same_answer"] not in (None, True, False):
        return None
    return line | ({"detections": parse_detections(line["detections"])} if line["kind"] == ANSWER else {})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST


def _is_optional_number(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_detections(value: Any) -> bool:
    try:
        parse_detections(value)
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _is_timing(value: Any) -> bool:
    """Whether this is what `exchange.Timing.to_dict` writes, or None."""
    if value is None:
        return True
    numbers = ("send_ms", "wait_ms", "transfer_ms")
    if not isinstance(value, dict) or not all(_is_number(value.get(name)) for name in numbers):
        return False
    return {"server_ms", "connect"} <= value.keys() and _is_optional_number(value["server_ms"]) and (
        value["connect"] is None or _is_connect_timing(value["connect"])
    )  # fmt: skip


def _is_connect_timing(value: Any) -> bool:
    if not isinstance(value, dict) or not all(_is_number(value.get(name)) for name in ("dns_ms", "tcp_ms")):
        return False
    return "tls_ms" in value and _is_optional_number(value["tls_ms"])


_OF_BOTH: Mapping[str, Check] = {
    **dict.fromkeys(KEY, _is_text),
    "outcome": lambda value: isinstance(value, str) and value in OUTCOMES,
    "retried": _is_list_of_texts,
    "ms": _is_number,
}
FIELDS: Mapping[str, Mapping[str, Check]] = {
    ANSWER: {**_OF_BOTH, "error": _is_text, "detections": _are_detections},
    LATENCY: {**_OF_BOTH, "concurrency": _is_number, "run": _is_text, "started_s": _is_number},
}
"""What lines of each kind have at least, and how it is checked."""
