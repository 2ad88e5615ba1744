"""Runs contenders in interleaved rounds: A B C, A B C, …, one at a time, the others loaded and idle.

Interleaving spreads the machine's slow and fast moments over all contenders alike. After a turn, the threads of ONNX
Runtime, OpenMP and OpenBLAS spin for some milliseconds while they wait for work, which would take processor time from
the next contender. So there is a pause between turns, and the processor time that a contender spent during the turns
of others is reported as `spun_ms` (per round) with its results.

A contender that does not start, or fails in a turn, is left out with its reason; the others go on.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from detr_onnx.bench import baselines
from detr_onnx.bench.baselines.turns import Options
from detr_onnx.bench.exit_status import how_it_ended, last_line, tail_of

PAUSE_S = 0.25
STOP_S = 5.0  # until a contender that does not end by itself is killed
LONGEST_ANSWER = 1 << 16  # characters; an answer has a few hundred
SHOWN = 60  # characters of what is not an answer

Show = Callable[[int, str], None]
"""Shows progress: takes the number of the round and the title of what runs."""
LeftOut = dict[str, str]
"""The reason why something was not measured, by its title."""


@dataclass(frozen=True)
class Entry:
    """A contender before it is started.

    Attributes:
        key: its name in the results.
        title: its name in tables.
        command: the program to start. It must follow `baselines.protocol`.
    """

    key: str
    title: str
    command: tuple[str, ...]


def our_command(kind: str, options: Options) -> tuple[str, ...]:
    """The command that starts one of `ours.KINDS`."""
    return (sys.executable, "-m", "detr_onnx.bench.ours", kind, json.dumps(options))


def baseline_command(python: str, kind: str, options: Options) -> tuple[str, ...]:
    """The command that starts one of `baselines.kinds` in the environment of this interpreter."""
    return (python, baselines.__path__[0], kind, json.dumps(options))


@dataclass
class Contender:
    """A running contender.

    Attributes:
        entry: what was started.
        process: its process.
        stderr: the file that its stderr goes to.
        runs_on: the runtime it reported.
        versions: versions of the packages it imported.
        seconds: seconds by part, one value per round.
        spun_s: processor time it spent during the turns of others, in seconds.
    """

    entry: Entry
    process: subprocess.Popen[str]
    stderr: BinaryIO
    runs_on: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    spun_s: float = 0.0

    def load(self) -> None:
        """Waits until it is loaded.

        Raises:
            RuntimeError: it cannot run.
        """
        answer = self._answer()
        self.runs_on, self.versions = answer.get("runs_on", ""), answer.get("versions", {})
        if not self.runs_on or not isinstance(self.runs_on, str) or not isinstance(self.versions, dict):
            raise RuntimeError(self._not_an_answer(json.dumps(answer)))

    def turn(self) -> dict[str, float]:
        """Runs it once and returns the seconds of each part.

        Raises:
            RuntimeError: the turn failed.
        """
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write("turn\n")
                self.process.stdin.flush()
        parts = self._answer()
        if not parts or not all(map(_is_duration, parts.values())):
            raise RuntimeError(f"it answered {json.dumps(parts)[:SHOWN]} instead of the seconds of each part")
        return parts

    def _answer(self) -> dict[str, Any]:
        """Reads its next answer.

        Raises:
            RuntimeError: it reports an error, prints something else, or has ended.
        """
        line = self.process.stdout.readline(LONGEST_ANSWER) if self.process.stdout is not None else ""
        if not line:
            raise RuntimeError(self._why_it_ended())
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise RuntimeError(self._not_an_answer(line.strip()))
        if "error" in answer:
            raise RuntimeError(str(answer["error"]))
        return answer

    def _not_an_answer(self, text: str) -> str:
        remedy = f"check that {self.entry.command[0]} is a Python interpreter"
        return f"it printed {text[:SHOWN]!r} instead of an answer in JSON; {remedy}"

    def _why_it_ended(self) -> str:
        self._end()
        cause = last_line(tail_of(self.stderr))
        return f"it ended without an answer ({how_it_ended(self.process.returncode)})" + (f": {cause}" if cause else "")

    def processor_s(self) -> float:
        """Processor time of all its threads in seconds; 0 where the system does not report it."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return 0.0
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime

    def stop(self) -> None:
        """Waits until it exits; it is killed if that takes long."""
        self._end()
        self.stderr.close()

    def kill(self) -> None:
        """Ends it at once, whatever it is doing."""
        self.process.kill()
        self.stop()

    def _end(self) -> None:
        """Closes its pipes, at which it exits."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _is_duration(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf  # type: ignore[operator]


def start(entry: Entry, environment: Mapping[str, str]) -> Contender | str:
    """The contender, loaded and ready, or one line with the reason why it cannot run."""
    with contextlib.ExitStack() as stack:
        try:
            stderr = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                entry.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
                encoding="utf-8", errors="replace", env=environment,
            )  # fmt: skip
        except OSError as error:
            return str(error)
        stack.pop_all()
    contender = Contender(entry, process, stderr)
    try:
        contender.load()
    except RuntimeError as error:
        contender.stop()
        return str(error)
    except BaseException:  # Ctrl-C while it loads
        contender.kill()
        raise
    return contender


@contextlib.contextmanager
def start_all(entries: Sequence[Entry], environment: Mapping[str, str]) -> Iterator[tuple[list[Contender], LeftOut]]:
    """Starts the contenders and stops them on exit. Gives those that run, and why others do not."""
    contenders: list[Contender] = []
    left_out: LeftOut = {}
    try:
        for entry in entries:
            contender = start(entry, environment)
            if isinstance(contender, Contender):
                contenders.append(contender)
            else:
                left_out[entry.title] = contender
        yield contenders, left_out
    except BaseException:  # such as Ctrl-C: what is under way is not waited for
        for running in contenders:
            running.kill()
        raise
    finally:
        for running in contenders:
            running.stop()


def run_interleaved(
    contenders: Sequence[Contender], runs: int, warm_up: int, show: Show, pause_s: float = PAUSE_S
) -> tuple[list[Contender], LeftOut]:
    """Runs `warm_up` rounds that are not recorded and `runs` rounds whose results go into the contenders.

    Returns:
        The contenders that ran in all rounds, and why others did not.
    """
    running, left_out = list(contenders), LeftOut()
    for number in range(warm_up + runs):
        for contender in list(running):
            show(number + 1, contender.entry.title)
            before = [other.processor_s() for other in running]
            try:
                parts = contender.turn()
            except RuntimeError as error:
                left_out[contender.entry.title] = str(error)
                running.remove(contender)
                contender.stop()
                continue
            for other, used_s in zip(running, before, strict=True):
                other.spun_s += other.processor_s() - used_s if other is not contender and number >= warm_up else 0
            for part, seconds in parts.items() if number >= warm_up else ():
                contender.seconds.setdefault(part, []).append(seconds)
            time.sleep(pause_s)
    return running, left_out


def run_contenders(
    entries: Sequence[Entry],
    environment: Mapping[str, str],
    runs: int,
    warm_up: int,
    show: Show,
    pause_s: float = PAUSE_S,
) -> tuple[list[Contender], LeftOut]:
    """Starts the contenders, runs them in interleaved rounds and stops them; see `run_interleaved`."""
    with start_all(entries, environment) as (started, left_out):
        finished, failed = run_interleaved(started, runs, warm_up, show, pause_s)
    return finished, left_out | failed
