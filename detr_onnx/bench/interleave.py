"""Runs contenders in interleaved rounds: A B C, A B C, …, one at a time, the others loaded and idle.

Interleaving spreads the machine's slow and fast moments over all contenders alike. After a turn, the threads of ONNX
Runtime, OpenMP and OpenBLAS spin for some milliseconds while they wait for work, which would take processor time from
the next contender. So there is a pause between turns, and the processor time that a contender spent during the turns
of others is reported as `spun_ms` (per round) with its results.
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

from detr_onnx.bench import baselines

PAUSE_S = 0.25

Show = Callable[[int, str], None]
"""Shows progress: takes the number of the round and the title of what runs."""


@dataclass(frozen=True)
class Entry:
    """A contender before it is started.

    Attributes:
        key: its name in the results.
        title: its name in tables.
        command: the program to start. It must follow the protocol of `baselines.take_turns`.
    """

    key: str
    title: str
    command: tuple[str, ...]


def our_command(kind: str, options: baselines.Options) -> tuple[str, ...]:
    """The command that starts one of `ours.KINDS`."""
    return (sys.executable, "-m", "detr_onnx.bench.ours", kind, json.dumps(options))


def baseline_command(python: str, kind: str, options: baselines.Options) -> tuple[str, ...]:
    """The command that starts one of `baselines.KINDS` in the environment of this interpreter."""
    return (python, str(Path(baselines.__file__)), kind, json.dumps(options))


@dataclass
class Contender:
    """A running contender.

    Attributes:
        entry: what was started.
        process: its process.
        runs_on: the runtime it reported.
        versions: versions of the packages it imported.
        seconds: seconds by part, one value per round.
        spun_s: processor time it spent during the turns of others, in seconds.
    """

    entry: Entry
    process: subprocess.Popen[str]
    runs_on: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    spun_s: float = 0.0

    def turn(self) -> dict[str, float]:
        """Runs it once and returns the seconds of each part.

        Raises:
            RuntimeError: the turn failed.
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
        """Reads its next answer.

        Raises:
            RuntimeError: the process has exited.
        """
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"{self.entry.title} ended without an answer (exit status {self.process.wait()})")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def processor_s(self) -> float:
        """Processor time of all its threads in seconds; 0 where the system does not report it."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return 0.0
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime

    def stop(self) -> None:
        """Closes its pipes and waits until it exits."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()


def start(entry: Entry, environment: Mapping[str, str]) -> Contender | str:
    """The contender, loaded and ready, or one line with the reason why it cannot run."""
    try:
        process = subprocess.Popen(
            entry.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip
    except OSError as error:
        return str(error)
    contender = Contender(entry, process)
    try:
        response = contender.answer()
    except RuntimeError as error:
        response = {"error": str(error)}
    if "error" in response:
        contender.stop()
        return str(response["error"])
    contender.runs_on, contender.versions = response["runs_on"], response["versions"]
    return contender


@contextlib.contextmanager
def start_all(
    entries: Sequence[Entry], environment: Mapping[str, str]
) -> Iterator[tuple[list[Contender], dict[str, str]]]:
    """Starts the contenders and stops them on exit. Gives those that run, and by title why others do not."""
    contenders: list[Contender] = []
    left_out: dict[str, str] = {}
    try:
        for entry in entries:
            contender = start(entry, environment)
            if isinstance(contender, Contender):
                contenders.append(contender)
            else:
                left_out[entry.title] = contender
        yield contenders, left_out
    finally:
        for running in contenders:
            running.stop()


def run_interleaved(
    contenders: Sequence[Contender], runs: int, warm_up: int, show: Show, pause_s: float = PAUSE_S
) -> None:
    """Runs `warm_up` rounds that are not recorded and `runs` rounds whose results go into the contenders."""
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
