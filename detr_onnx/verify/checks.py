"""A check and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

OK, FAILED, SHOWN, NOT_TRIED, REFERENCE = "ok", "FAILED", "shown", "not tried", "reference"

Notice = Callable[[str], None]
"""Called with what comes next, to show progress."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        section: "files", "published values", "engines" or "COCO".
        name: what was checked.
        outcome: `OK`, `FAILED`, `SHOWN` (a figure that nothing is required of), `NOT_TRIED` or `REFERENCE`.
        found: what was found, in a few words; for what was not tried, why.
        expected: what it had to be; empty where nothing was required.
        figures: the same in numbers, for JSON.
    """

    section: str
    name: str
    outcome: str
    found: str
    expected: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


def judged(
    section: str, name: str, good: bool, found: str, expected: str = "", figures: Mapping[str, Any] | None = None
) -> Check:
    """A check that is `OK` or `FAILED`."""
    return Check(section, name, OK if good else FAILED, found, expected, figures or {})
