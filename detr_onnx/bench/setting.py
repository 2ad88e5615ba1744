"""The circumstances of a measurement: machine, load, date, command."""

from __future__ import annotations

import datetime
import logging
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detr_onnx.engines.cpu import cpu_features, processor

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
QUIET_LOAD = 0.3  # of a minute's average: above it something else is running

logger = logging.getLogger(__name__)


def machine() -> dict[str, Any]:
    """Processor, the instruction sets that decide which kernels run, cores, memory, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor(),
        "features": cpu_features(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def setting(program: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What goes on top of a results file; to be taken before the first run, for the load to be that of others."""
    load = os.getloadavg()[0]
    if load > QUIET_LOAD:
        logger.warning("something else is running here (load %.1f); the figures will be noisy", load)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "command": " ".join([program, *(without_place(word) for word in arguments)]),
        "machine": machine(),
        "load_before": round(load, 2),
    }


def environment(threads: int) -> dict[str, str]:
    """What children run in: every library told how many threads to use."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def without_place(word: str) -> str:
    """An absolute path by its last two parts: where things lie on this machine concerns nobody."""
    return "/".join(Path(word).parts[-2:]) if Path(word).is_absolute() else word
