"""What the modules with tables share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Any]


def versions(results: Results) -> str:
    """The packages of a results file and their versions, on one line."""
    return ", ".join(f"{name} {version}" for name, version in results["versions"].items())
