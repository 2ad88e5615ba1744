"""Many inputs of many kinds, in processes of their own: a reader that hangs or crashes ends its process only."""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from tests.fuzz.run import Fault, Kind, Report, quiet, run

CHUNK = 1000  # inputs that a process takes at a time


@dataclass(frozen=True)
class Chunk:
    """Inputs of one kind: `count` of them, from number `first` on."""

    kind: str
    seed: int
    first: int
    count: int


def shares(kinds: Mapping[str, Kind], count: int) -> dict[str, int]:
    """How many of `count` inputs each kind gets, by its `share`; kinds without valid inputs here get none."""
    with quiet():
        usable = {name: kind.share for name, kind in kinds.items() if kind.seeds()}
    whole, before, counts = sum(usable.values()), 0, dict.fromkeys(kinds, 0)
    for name, share in usable.items():
        counts[name] = count * (before + share) // whole - count * before // whole
        before += share
    return counts


def run_all(
    counts: Mapping[str, int], seed: int, first: int = 0, processes: int = 1, seconds: float = math.inf
) -> dict[str, Report]:
    """What came of so many inputs of each kind, from number `first` on; of fewer where the time is over before."""
    chunks = [
        Chunk(name, seed, start, min(CHUNK, first + count - start))
        for name, count in counts.items()
        for start in range(first, first + count, CHUNK)
    ]
    chunks.sort(key=lambda chunk: (chunk.first - first) / counts[chunk.kind])  # all kinds get on at the same pace
    reports = {name: Report() for name in counts}
    for chunk, report in _finished(chunks, processes, time.monotonic() + seconds):
        reports[chunk.kind].add(report)
    return reports


def _finished(chunks: Sequence[Chunk], processes: int, until: float) -> Iterator[tuple[Chunk, Report]]:
    """Each chunk that began in time, and its report. After a process has died, the chunks without one run alone."""
    left: list[Chunk] = []
    with _pool(processes) as pool:
        futures = [(chunk, _submitted(pool, chunk)) for chunk in chunks]
        for chunk, future in futures:
            wait([future], None if math.isinf(until) else max(0.0, until - time.monotonic()))
            if time.monotonic() >= until:
                _cancel(later for _, later in futures)
            if future.cancelled():
                continue
            try:
                yield chunk, future.result()
            except BrokenProcessPool:
                left.append(chunk)
    for chunk in left:
        yield chunk, _alone(chunk)


def _cancel(futures: Iterable[Future[Report]]) -> None:
    for future in futures:
        future.cancel()


def _alone(chunk: Chunk) -> Report:
    with _pool(1) as pool:
        try:
            return _submitted(pool, chunk).result()
        except BrokenProcessPool:
            what = f"the process ended in one of the inputs {chunk.first} to {chunk.first + chunk.count - 1}"
            return Report(Counter({"the process ended": 1}), [Fault(chunk.first, "any", what, b"")])


def _submitted(pool: ProcessPoolExecutor, chunk: Chunk) -> Future[Report]:
    try:
        return pool.submit(run_chunk, chunk)
    except BrokenProcessPool as error:
        failed: Future[Report] = Future()
        failed.set_exception(error)
        return failed


def run_chunk(chunk: Chunk) -> Report:
    """What came of a chunk, in this process."""
    from tests.fuzz.kinds import KINDS

    return run(KINDS[chunk.kind], chunk.count, chunk.seed, chunk.first)


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_silence) as pool:
        yield pool


def _silence() -> None:
    """Keeps what libraries print away from stderr, but not the traceback of a crash."""
    sys.stderr = os.fdopen(os.dup(2), "w")
    faulthandler.enable(sys.stderr)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - as open as a descriptor
        os.dup2(nowhere.fileno(), 2)
