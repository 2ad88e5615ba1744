"""What the pages' tables are made of: rows, numbers, versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]


def number(value: float) -> str:
    """Milliseconds to three digits or so: 640, 23.1, 2.35."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in rows)


def versions(results: Results) -> str:
    """The packages of a results file, in one line."""
    return ", ".join(f"{name} {version}" for name, version in results["versions"].items())
