"""Contenders that take turns: A B C, A B C, …, one at work at a time, the others loaded and asleep.

After a turn a library's threads may go on spinning for a while, waiting for more work, and would take processor time
from the next contender: ONNX Runtime's, OpenMP's and OpenBLAS's all do, for some milliseconds. So there is a pause
between turns, and afterwards it is checked: the processor time that contenders spent outside their turns and pauses is
reported as `spun_ms` (per round) beside each result.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detr_onnx.bench import baselines as peers

PAUSE_S = 0.25

Show = Callable[[int, str], None]
"""Told the number of a round, and what is done in it."""


@dataclass(frozen=True)
class Entry:
    """A contender that is to take part.

    Attributes:
        key: its name in the results.
        title: its name for people.
        command: what starts it; it speaks as `peers.take_turns` does.
    """

    key: str
    title: str
    command: tuple[str, ...]


def ours(kind: str, given: peers.Given) -> tuple[str, ...]:
    """The command of one of `contenders.KINDS`."""
    return (sys.executable, "-m", "detr_onnx.bench.ours", kind, json.dumps(given))


def theirs(python: str, kind: str, given: peers.Given) -> tuple[str, ...]:
    """The command of one of `peers.KINDS` in the environment of an interpreter."""
    return (python, str(Path(peers.__file__)), kind, json.dumps(given))


@dataclass
class Contender:
    """A running contender, what it runs on, and what it has shown so far: seconds by part, a value a round."""

    entry: Entry
    process: subprocess.Popen[str]
    runs_on: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    spun_s: float = 0.0

    def turn(self) -> dict[str, float]:
        """One turn's seconds by part.

        Raises:
            RuntimeError: when it fails.
        """
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write("turn\n")
                self.process.stdin.flush()
        parts = self.answer()
        if "error" in parts:
            raise RuntimeError(f"{self.entry.title}: {parts['error']}")
        return parts

    def answer(self) -> dict[str, Any]:
        """What it says next.

        Raises:
            RuntimeError: when the process has died.
        """
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"{self.entry.title} ended without an answer (exit status {self.process.wait()})")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def processor_s(self) -> float:
        """Processor time that the process has used, all its threads together; 0 where the system does not tell."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return 0.0
        words = stat.read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime

    def stop(self) -> None:
        """Ends it."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()


def start(entry: Entry, environment: Mapping[str, str]) -> Contender | str:
    """The contender, loaded and ready; or one line that says why it cannot take part."""
    try:
        process = subprocess.Popen(
            entry.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip
    except OSError as error:
        return str(error)
    contender = Contender(entry, process)
    try:
        told = contender.answer()
    except RuntimeError as error:
        told = {"error": str(error)}
    if "error" in told:
        contender.stop()
        return str(told["error"])
    contender.runs_on, contender.versions = told["runs_on"], told["versions"]
    return contender


@contextlib.contextmanager
def started(
    wanted: Sequence[Entry], environment: Mapping[str, str]
) -> Iterator[tuple[list[Contender], dict[str, str]]]:
    """Those that can take part, and by title why others cannot; at the end all are stopped."""
    found: list[Contender] = []
    left_out: dict[str, str] = {}
    try:
        for entry in wanted:
            one = start(entry, environment)
            if isinstance(one, Contender):
                found.append(one)
            else:
                left_out[entry.title] = one
        yield found, left_out
    finally:
        for contender in found:
            contender.stop()


def interleaved(contenders: Sequence[Contender], runs: int, warm_up: int, show: Show, pause_s: float = PAUSE_S) -> None:
    """Lets all take `warm_up` turns that do not count and `runs` that do; the results are in the contenders."""
    for number in range(warm_up + runs):
        for contender in contenders:
            show(number + 1, contender.entry.title)
            before = [other.processor_s() for other in contenders]
            parts = contender.turn()
            for other, used_s in zip(contenders, before, strict=True):
                other.spun_s += other.processor_s() - used_s if other is not contender and number >= warm_up else 0
            for part, seconds in parts.items() if number >= warm_up else ():
                contender.seconds.setdefault(part, []).append(seconds)
            time.sleep(pause_s)
