"""Peak memory and wall time of whole processes, run one at a time in interleaved rounds.

A program is timed from its start to its exit; its peak resident set is `ru_maxrss`. On Linux a child starts with the
peak of its parent, so this process must stay small; `floor_mb` is what it needs itself. A first round that is not
recorded brings the files into the page cache and the built graph into this package's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detr_onnx.bench.exit_status import how_it_ended, last_line
from detr_onnx.bench.interleave import LeftOut, Show

BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


@dataclass
class Program:
    """A command and its results, one value per recorded run."""

    key: str
    title: str
    command: tuple[str, ...]
    peak_mb: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)


def run(program: Program, environment: Mapping[str, str]) -> None:
    """Runs the program once and records its memory and times.

    Raises:
        OSError: it cannot be started.
        RuntimeError: it failed; the message is the last line of its stderr.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        program.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    ) as process:
        try:
            stderr = process.stderr.read() if process.stderr is not None else b""
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:  # such as Ctrl-C: the program would go on alone
            process.kill()
            raise
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        cause = last_line(stderr)
        ended = how_it_ended(process.returncode) if process.returncode < 0 or not cause else ""
        raise RuntimeError(": ".join(part for part in (ended, cause) if part))
    program.peak_mb.append(used.ru_maxrss * BYTES_PER_UNIT / 1e6)
    program.wall_s.append(wall_s)
    program.processor_s.append(used.ru_utime + used.ru_stime)


def run_in_turns(
    programs: Sequence[Program], runs: int, environment: Mapping[str, str], show: Show
) -> tuple[list[Program], LeftOut]:
    """Runs the programs in turns: a first round that is not recorded, then `runs` rounds.

    Returns:
        The programs that ran in all rounds, with a value for each recorded one, and why others did not.
    """
    working, left_out = _unmeasured(programs), LeftOut()
    for number in range(runs + 1):
        for program in list(working):
            show(number, program.title)
            try:
                run(program, environment)
            except (OSError, RuntimeError) as error:
                left_out[program.title] = str(error)
                working.remove(program)
        if number == 0:
            working = _unmeasured(working)
    return working, left_out


def _unmeasured(programs: Sequence[Program]) -> list[Program]:
    return [Program(program.key, program.title, program.command) for program in programs]


def floor_mb() -> float:
    """Peak memory of this process in megabytes. No child can show less."""
    import resource  # not on Windows, where `detr-onnx bench` refuses to run

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_UNIT / 1e6
