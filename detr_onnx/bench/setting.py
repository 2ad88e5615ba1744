"""What a results file says about the conditions of a measurement: machine, load, date, command."""

from __future__ import annotations

import datetime
import logging
import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detr_onnx.engines.cpu import cpu_features, processor

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
QUIET_LOAD = 0.3  # one-minute load average; above it something else is running

logger = logging.getLogger(__name__)


def machine() -> dict[str, Any]:
    """Processor, its instruction sets that decide which kernels run, cores, memory (or None), system, Python."""
    memory = memory_bytes()
    return {
        "processor": processor(),
        "features": cpu_features(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30) if memory is not None else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def setting(program: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The head of a results file. Call it before the first run, so that the load is that of other programs.

    Args:
        program: the command without its arguments.
        arguments: the arguments; absolute paths are shortened, and all are quoted for a shell where they need it.
    """
    load = one_minute_load()
    if load is not None and load > QUIET_LOAD:
        logger.warning("other programs are running (load %.1f); the results will be noisy", load)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "command": " ".join([program, *(shlex.quote(short_path(argument)) for argument in arguments)]),
        "machine": machine(),
        "load_before": round(load, 2) if load is not None else None,
    }


def memory_bytes() -> int | None:
    """The memory of this machine; None where the system does not tell it to Python, as Windows."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def one_minute_load() -> float | None:
    """How many processes ran or waited on average in the last minute; None on Windows, which does not count them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def environment(threads: int) -> dict[str, str]:
    """Environment variables of child processes, with the number of threads set for every library."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def short_path(argument: str) -> str:
    """The argument with the last two parts of an absolute path, so that results do not reveal directories.

    The path may be the value of an option, as in `--model=/home/me/models/detr.onnx`.
    """
    option, sign, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    path = Path(value)
    return option + sign + ("/".join(path.parts[1:][-2:]) if path.is_absolute() else value)
