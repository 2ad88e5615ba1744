"""One run of a contender, which is a turn, and the seconds of its parts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

Options = Mapping[str, Any]
"""What a contender runs: model or graph, image or pixels, threads, and other options of its kind."""
Turn = Callable[[], dict[str, float]]
"""Runs once and returns the seconds of each part."""

DECODE, PIXELS, NETWORK, POSTPROCESS, DETECT, TOTAL = "decode", "pixels", "network", "postprocess", "detect", "total"
"""Names of parts; the last two are of all parts together."""
THRESHOLD = 0.5
SHORT_WARM_UP, SHORT_RUNS = 3, 20
CONCURRENCIES = (1, 2, 4)
IMAGES_A_TURN = 4  # at each concurrency


@dataclass(frozen=True)
class Ready:
    """A loaded contender: how to run it once, and a description of the runtime it uses."""

    turn: Turn
    runs_on: str


def timed(part: str, action: Callable[[], Any]) -> Turn:
    """A turn of one action."""

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        action()
        return {part: time.perf_counter() - start}

    return turn


def in_parts(whole: str, steps: Sequence[tuple[str, Callable[[Any], Any]]]) -> Turn:
    """A turn of several steps. Each step takes the result of the step before; the first takes None."""

    def turn() -> dict[str, float]:
        parts, value, start = {}, None, time.perf_counter()
        now = start
        for part, step in steps:
            value = step(value)
            before, now = now, time.perf_counter()
            parts[part] = now - before
        return parts | {whole: now - start}

    return turn


def repeated(turn: Turn) -> Turn:
    """A turn that repeats a short turn and returns the median of each part.

    A single run of a few milliseconds, after seconds of other contenders' work, would mostly measure cold caches.
    """

    def turns() -> dict[str, float]:
        runs = [turn() for _ in range(SHORT_WARM_UP + SHORT_RUNS)][SHORT_WARM_UP:]
        return {part: statistics.median(run[part] for run in runs) for part in runs[0]}

    return turns


def concurrent(detect: Callable[[], Any]) -> Turn:
    """A turn that returns seconds per image with one, two and four calls at a time, as parts "1", "2" and "4"."""

    def turn() -> dict[str, float]:
        parts = {}
        for count in CONCURRENCIES:
            with ThreadPoolExecutor(count) as threads:
                list(threads.map(lambda _: None, range(count)))  # starts the threads
                start = time.perf_counter()
                list(threads.map(lambda _: detect(), range(IMAGES_A_TURN)))
                parts[str(count)] = (time.perf_counter() - start) / IMAGES_A_TURN
        return parts

    return turn


def threshold_for(kept: int, scores: Sequence[float]) -> float:
    """A threshold that so many of the scores exceed; panoptic turns set by it how many queries get a mask."""
    ordered = [1.0, *sorted(scores, reverse=True), 0.0]
    return 1.0 if kept == 0 else (ordered[kept] + ordered[kept + 1]) / 2
