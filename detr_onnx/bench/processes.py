"""Peak memory and wall time of whole processes, one at a time, in turns.

Each is started, timed from outside until it has ended, and asked for its peak resident set (`ru_maxrss`). A child
begins with the peak of whoever started it, so this process has to stay small; what it had itself is the floor. Files
are in the page cache: a first turn that does not count has read them, and has let ours put its graph into its cache.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detr_onnx.bench.interleave import Show

BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


@dataclass
class Program:
    """A command, and what its runs have shown: a value a run that counts."""

    key: str
    title: str
    command: tuple[str, ...]
    peak_mb: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)


def run(program: Program, environment: Mapping[str, str]) -> None:
    """Runs it once and notes what it took.

    Raises:
        RuntimeError: when it fails, with the last line it said.
    """
    begin = time.perf_counter()
    with subprocess.Popen(
        program.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    ) as process:
        said = process.stderr.read() if process.stderr is not None else b""
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(said.decode(errors="replace").strip().rpartition("\n")[2][:200] or "failed")
    program.peak_mb.append(used.ru_maxrss * BYTES_PER_UNIT / 1e6)
    program.wall_s.append(wall_s)
    program.processor_s.append(used.ru_utime + used.ru_stime)


def in_turns(
    wanted: Sequence[Program], runs: int, environment: Mapping[str, str], show: Show
) -> tuple[list[Program], dict[str, str]]:
    """Those that ran, with `runs` values each, and by title why others did not."""
    able: list[Program] = []
    left_out: dict[str, str] = {}
    for program in wanted:
        show(0, program.title)
        try:
            run(program, environment)
        except (OSError, RuntimeError) as error:
            left_out[program.title] = str(error)
        else:
            able.append(Program(program.key, program.title, program.command))
    for number in range(runs):
        for program in able:
            show(number + 1, program.title)
            run(program, environment)
    return able, left_out


def floor_mb() -> float:
    """This process's own peak: no child can show less."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_UNIT / 1e6
