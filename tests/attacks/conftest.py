"""Every test of an attack is bounded in time and memory, generously: what is bounded here took minutes or gigabytes."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

import pytest

PROCESSOR_S, GROWN_MB = 30, 256


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fails a test that takes too much processor time or memory."""
    started, peak_mb = time.process_time(), _peak_mb()
    yield
    assert time.process_time() - started < PROCESSOR_S
    assert _peak_mb() - peak_mb < GROWN_MB


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
