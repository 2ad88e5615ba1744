"""What the processes of a benchmark run in."""

from __future__ import annotations

import sys
from pathlib import Path

from detr_onnx.bench import setting

CACHE = "cache"


def environment(work: Path, threads: int) -> dict[str, str]:
    """Every library told how many threads to use, ours' cache in the work directory, no hub."""
    return {**setting.environment(threads), "DETR_ONNX_CACHE": str(work / CACHE), "HF_HUB_OFFLINE": "1"}


def show(number: int, title: str) -> None:
    """Says what is being done."""
    print(f"round {number}: {title}", file=sys.stderr)
