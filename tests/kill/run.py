"""Kills a command at random moments, and looks at what it left and at what the next run makes of it.

    undisturbed twice ──► what is right, and how long it takes
    for each kill:  a fresh place ── killed ── nothing torn? ── undisturbed ── the same files and answers, nothing else?

Half of the moments are spread over the whole run, most of which is imports; the other half over the time from the
first change of a file on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

from tests.kill.scenarios import PARTS, Scenario, arrange
from tests.kill.snapshot import Snapshot, differences, mixed, snapshot, torn, unsound

ROOT = Path(__file__).parents[2]
LONGEST_RUN_S = 300
POLL_S = 0.002
MOST_TRIES = 3  # for each kill: a busy machine makes times vary
KILLED = "killed"


@dataclass(frozen=True)
class Ended:
    """A run of a command.

    Attributes:
        status: its exit status; minus the number of the signal that ended it.
        stdout, stderr: what it wrote.
        first_change_s: seconds from its start to the first change of a file; of its whole time if there was none.
        seconds: its whole time.
    """

    status: int
    stdout: bytes
    stderr: bytes
    first_change_s: float
    seconds: float


@dataclass
class Report:
    """What came of the kills.

    Attributes:
        seconds: of the undisturbed run.
        outcomes: how often each occurred.
        faults: what must not be, with the number of the kill and its moment.
    """

    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Right:
    """What is right.

    Attributes:
        before: the files before the command.
        after: the files after it.
        ended: the run that gave them.
    """

    before: Snapshot
    after: Snapshot
    ended: Ended


class Killer:
    """Runs one scenario in directories below `home`.

    Args:
        scenario: the command.
        inputs: the directory that `write_inputs` filled.
        home: an empty directory.
        variables: the environment variables of the scenario's server.
    """

    def __init__(self, scenario: Scenario, inputs: Path, home: Path, variables: Mapping[str, str]) -> None:
        self.scenario, self.inputs, self.variables = scenario, inputs, variables
        self.place, self.before = home / "place", home / "before"

    def start(self, words: tuple[str, ...], extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A command of the package in a process group of its own, as a terminal starts it."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DETR_ONNX_"))},
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DETR_ONNX_CACHE": str(self.place / "cache"),
            "TMPDIR": str(self.place / "tmp"),
            "HF_HOME": str(self.place / "hub"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **self.variables,
            **(extra or {}),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "detr_onnx", *(word.format_map(self.variables) for word in words)],
            cwd=self.place / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_hear_interrupts,
        )

    def run(
        self,
        words: tuple[str, ...],
        kill_at_s: float | None = None,
        *,
        after_change: bool = False,
        number: int = 9,
        extra: Mapping[str, str] | None = None,
    ) -> Ended:
        """Runs a command to its end, or sends its process group a signal.

        Args:
            words: the command.
            kill_at_s: seconds from the start, or from the first change of a file, to the signal.
            after_change: which of the two.
            number: of the signal.
            extra: environment variables.
        """
        nothing, started = self._state(), time.monotonic()
        process, changed_s = self.start(words, extra), None
        while process.poll() is None:
            now_s = time.monotonic() - started
            if changed_s is None and self._state() != nothing:
                changed_s = now_s
            counted_s = now_s - (changed_s or 0.0) if after_change and changed_s is not None else now_s
            due = kill_at_s is not None and counted_s >= kill_at_s and (changed_s is not None or not after_change)
            if due or now_s > LONGEST_RUN_S:
                os.killpg(process.pid, number if due else signal.SIGKILL)
                break
            time.sleep(POLL_S)
        stdout, stderr = process.communicate(timeout=LONGEST_RUN_S)
        seconds = time.monotonic() - started
        return Ended(process.returncode, stdout, stderr, seconds if changed_s is None else changed_s, seconds)

    def _state(self) -> object:
        """Changes with every file that is created, renamed or removed, without reading any."""
        return [
            (directory, names, files)
            for name in PARTS
            for directory, names, files in os.walk(self.place / name, onerror=lambda error: None)
        ]

    def arrange(self) -> Snapshot:
        """An empty place in which the earlier commands have run; its files."""
        if self.before.exists():
            shutil.rmtree(self.place, ignore_errors=True)
            shutil.copytree(self.before, self.place, symlinks=True)
        else:
            arrange(self.place, self.inputs)
            for words in self.scenario.before:
                self._succeed(words)
            shutil.copytree(self.place, self.before, symlinks=True)
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        return snapshot(self.place, self.scenario.readers)

    def _succeed(self, words: tuple[str, ...]) -> Ended:
        ended = self.run(words)
        assert ended.status == 0, ended.stderr.decode()
        return ended

    def undisturbed(self) -> Right:
        """What is right, and whether it is the same twice.

        Raises:
            AssertionError: it is not.
        """
        rights = []
        for _ in range(2):
            before = self.arrange()
            ended = self._succeed(self.scenario.command)
            rights.append(Right(before, self.snapshot(), ended))
        first, second = rights
        changing = differences(first.after, second.after)
        assert not changing, f"these files differ from run to run: {changing}"
        assert not self.scenario.stdout or first.ended.stdout == second.ended.stdout
        return second

    def kill(self, right: Right, at_s: float, after_change: bool, report: Report, name: str) -> None:
        """One kill, and the next run."""
        before = self.arrange()
        killed = self.run(self.scenario.command, at_s, after_change=after_change)
        report.outcomes[KILLED if killed.status == -signal.SIGKILL else "ended before"] += 1
        self.check(right, before, report, f"{name}, at {at_s:.3f} s{' after the first change' * after_change}")

    def check(self, right: Right, before: Snapshot, report: Report, name: str) -> None:
        """Looks at what a killed command left, and at what the next run makes of it."""
        left = self.snapshot()
        bad = torn(left, before, right.after) + unsound(self.place / "cache")
        if self.scenario.first is not None:
            others = tuple(f"work/{other}" for other in self.scenario.others)
            bad += mixed(left, before, right.after, f"work/{self.scenario.first}", others)
        if bad:
            report.faults.append(f"{name}: torn: {', '.join(bad)}")
        leftovers = sorted(path for path in left.keys() - right.after.keys() if path not in before)
        report.outcomes["left something temporary"] += bool(leftovers)
        if self.scenario.once and right.after.items() <= left.items():
            return
        following = self.run(self.scenario.command)
        if following.status:
            report.faults.append(f"{name}: the next run failed: {following.stderr.decode(errors='replace')[-300:]}")
        elif self.scenario.stdout and following.stdout != right.ended.stdout:
            report.faults.append(f"{name}: the next run gave other answers")
        if wrong := differences(self.snapshot(), right.after):
            report.faults.append(f"{name}: after the next run: {', '.join(wrong)}")


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what runs in the background of a script ignores it


def run_scenario(scenario: Scenario, count: int, seed: int, inputs: Path, home: Path) -> Report:
    """Kills the command `count` times; a run that ended before its moment does not count."""
    with scenario.server(inputs) as variables:
        killer = Killer(scenario, inputs, home, variables)
        right = killer.undisturbed()
        report = Report(right.ended.seconds)
        for index, (share, after_change) in enumerate(islice(moments(count, seed), MOST_TRIES * count)):
            if report.outcomes[KILLED] < count:
                writing_s = right.ended.seconds - right.ended.first_change_s
                at_s = share * (writing_s if after_change else right.ended.seconds)
                killer.kill(right, at_s, after_change, report, f"kill {index}")
    return report


def moments(count: int, seed: int) -> Iterator[tuple[float, bool]]:
    """Shares of the time, and whether of that from the first change on, half of each; the first are spread evenly."""
    random = Random(seed)
    halves = {False: count - count // 2, True: count // 2}
    yield from [((i + random.random()) / size, after) for after, size in halves.items() for i in range(size)]
    while True:
        yield random.random(), random.random() < 0.5
