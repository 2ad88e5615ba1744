"""Contenders that take turns: A B C, A B C, …, one at work at a time, the others loaded and asleep.

After a turn a library's threads may go on spinning for a while, waiting for more work, and would take processor time
from the next contender: ONNX Runtime's, OpenMP's and OpenBLAS's all do, for some milliseconds. So there is a pause
between turns, and afterwards it is checked: the processor time that contenders spent outside their turns and pauses is
reported as `spun_ms` (per round) beside each result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAUSE_S = 0.25
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Entry:
    """A contender that is to take part.

    Attributes:
        key: its name in the results.
        title: its name for people.
        kind: which of `contenders.KINDS`.
        subject: the graph or checkpoint it runs.
        source: the pixels or the photograph it gets.
        python: the interpreter of its environment.
    """

    key: str
    title: str
    kind: str
    subject: Path
    source: Path
    python: str = sys.executable


@dataclass
class Contender:
    """A running contender, and what it has shown so far: seconds by part, a value a round."""

    entry: Entry
    process: subprocess.Popen[str]
    versions: dict[str, str]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    spun_s: float = 0.0

    def turn(self) -> dict[str, float]:
        """One turn's seconds by part.

        Raises:
            RuntimeError: when the process has died.
        """
        assert self.process.stdin is not None
        self.process.stdin.write("turn\n")
        self.process.stdin.flush()
        return _answer(self.entry, self.process)

    def processor_s(self) -> float:
        """Processor time that the process has used, all its threads together."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return 0.0
        words = stat.read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / TICKS_PER_S  # utime, stime


def start(entry: Entry, environment: Mapping[str, str], threads: int) -> Contender | str:
    """The contender, loaded and ready; or one line that says why it cannot take part."""
    words = (entry.kind, str(entry.subject), str(entry.source), str(threads))
    command = [entry.python, "-m", "benchmarks.contenders", *words]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip
        told = _answer(entry, process)
    except (OSError, RuntimeError) as error:
        return str(error)
    if "error" in told:
        process.wait()
        return str(told["error"])
    return Contender(entry, process, told["versions"])


def interleaved(contenders: Sequence[Contender], runs: int, warm_up: int, pause_s: float = PAUSE_S) -> None:
    """Lets all take `warm_up` turns that do not count and `runs` that do; the results are in the contenders."""
    for number in range(warm_up + runs):
        for contender in contenders:
            before = [other.processor_s() for other in contenders]
            parts = contender.turn()
            for other, used_s in zip(contenders, before, strict=True):
                other.spun_s += other.processor_s() - used_s if other is not contender and number >= warm_up else 0
            for part, seconds in parts.items() if number >= warm_up else ():
                contender.seconds.setdefault(part, []).append(seconds)
            time.sleep(pause_s)
        print(f"round {number + 1} of {warm_up + runs}", file=sys.stderr)


def stop(contenders: Sequence[Contender]) -> None:
    """Ends all of them."""
    for contender in contenders:
        assert contender.process.stdin is not None
        contender.process.stdin.close()
    for contender in contenders:
        contender.process.wait()


def _answer(entry: Entry, process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{entry.title} ended without an answer (exit status {process.wait()})")
    answer: dict[str, Any] = json.loads(line)
    return answer
