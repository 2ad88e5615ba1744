"""The environment variables of the processes that are measured."""

from __future__ import annotations

import sys
from pathlib import Path

from detr_onnx.bench import setting

CACHE = "cache"


def environment(work: Path, threads: int) -> dict[str, str]:
    """Variables with the number of threads for every library, our cache in the work directory, and no hub."""
    return {**setting.environment(threads), "DETR_ONNX_CACHE": str(work / CACHE), "HF_HUB_OFFLINE": "1"}


def show(number: int, title: str) -> None:
    """Prints the progress."""
    print(f"round {number}: {title}", file=sys.stderr)
