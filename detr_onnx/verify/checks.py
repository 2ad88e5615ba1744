"""A check and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

OK, FAILED, SHOWN, NOT_TRIED, REFERENCE = "ok", "FAILED", "shown", "not tried", "reference"

Notice = Callable[[str], None]
"""A function that shows progress: it is called with the name of the next step."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        section: "files", "published values", "engines" or "COCO".
        name: what was checked.
        outcome: `OK`, `FAILED`, `SHOWN` (a figure without a limit), `NOT_TRIED` or `REFERENCE`.
        found: what was found, in a few words; if it was not tried, the reason.
        expected: what was required; empty if nothing was.
        figures: found and required values as numbers, for JSON.
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
