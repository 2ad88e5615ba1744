"""Runs a kind of fuzzer and reports what came of it."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import re
import resource
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from detr_onnx.text import printable

SECONDS_PER_INPUT = 5.0
MEGABYTES_PER_INPUT = 64.0
SECONDS_UNTIL_KILLED = 60  # a reader that hangs ends the process, with a traceback
LONGEST_OUTCOME, LONGEST_MESSAGE = 120, 4100  # characters
PATH, QUOTED, NUMBER = re.compile(r"/\S+"), re.compile(r"'[^']*'?|\"[^\"]*\"?"), re.compile(r"\d+")


@dataclass(frozen=True)
class Kind:
    """What is fuzzed.

    Attributes:
        seeds: returns valid inputs by name.
        mutate: returns another input, from a generator, a valid input and all valid inputs.
        read: gives an input to the reader.
        errors: what the reader may raise.
        share: of the inputs of all kinds, as a multiple of the smallest share; fast readers have more.
    """

    seeds: Callable[[], Mapping[str, bytes]]
    mutate: Callable[[Random, bytes, Sequence[bytes]], bytes]
    read: Callable[[bytes], str]
    errors: tuple[type[Exception], ...]
    share: int = 1


@dataclass(frozen=True)
class Fault:
    """An input that must not do what it did."""

    index: int
    seed_name: str
    what: str
    data: bytes


@dataclass
class Report:
    """What came of some inputs.

    Attributes:
        outcomes: how often each outcome occurred.
        faults: inputs with other exceptions, or over the limits of time and memory.
        slowest_s: the longest time of one input, in seconds.
        peak_mb: the most memory of a process, in MB.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mb: float = 0.0

    def add(self, other: Report) -> None:
        """Adds what came of other inputs."""
        self.outcomes += other.outcomes
        self.faults += other.faults
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.peak_mb = max(self.peak_mb, other.peak_mb)


def make_input(kind: Kind, seeds: Mapping[str, bytes], seed: int, index: int) -> tuple[str, bytes]:
    """The name of the valid input and the mutated input with this number. It depends on nothing else."""
    random = Random(f"{seed}/{index}")
    name = random.choice([*seeds])
    return name, kind.mutate(random, seeds[name], [*seeds.values()])


def run(kind: Kind, count: int, seed: int, first: int = 0) -> Report:
    """Runs `count` inputs from number `first` on."""
    report = Report()
    with quiet():
        seeds = kind.seeds()
        for index in range(first, first + count):
            name, data = make_input(kind, seeds, seed, index)
            faulthandler.dump_traceback_later(SECONDS_UNTIL_KILLED, exit=True)
            outcome, fault, seconds = _read(kind, data)
            report.outcomes[_plain(outcome)] += 1
            report.slowest_s = max(report.slowest_s, seconds)
            if fault:
                report.faults.append(Fault(index, name, fault, data))
    faulthandler.cancel_dump_traceback_later()
    report.peak_mb = _peak_mb()
    return report


def _plain(outcome: str) -> str:
    """An outcome without paths, names and numbers, so that equal ones are counted together."""
    for pattern, stand_in in (PATH, "FILE"), (QUOTED, "TEXT"), (NUMBER, "N"):
        outcome = pattern.sub(stand_in, outcome)
    return printable(outcome[:LONGEST_OUTCOME])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings are printed: Pillow's of damaged metadata, and this package's of what it assumed."""
    logger = logging.getLogger("detr_onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _read(kind: Kind, data: bytes) -> tuple[str, str | None, float]:
    """The outcome of one input, its fault or None, and its seconds."""
    peak_mb, start = _peak_mb(), time.process_time()
    fault: str | None = None
    try:
        outcome = kind.read(data)
    except kind.errors as error:
        outcome = f"{type(error).__name__}: {getattr(error, 'what', error)}"
        fault = f"a message of {len(str(error))} characters" if len(str(error)) > LONGEST_MESSAGE else None
    except Exception as error:  # noqa: BLE001 - every other exception is a fault
        outcome = fault = f"{type(error).__name__}: {error}"[:200]
    seconds, grown_mb = time.process_time() - start, _peak_mb() - peak_mb
    if seconds > SECONDS_PER_INPUT:
        fault = f"took {seconds:.1f} s"
    if grown_mb > MEGABYTES_PER_INPUT:
        fault = f"took {grown_mb:.0f} MB"
    return outcome, fault, seconds


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
