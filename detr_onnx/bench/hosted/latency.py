"""Latency and throughput of both sides: the same images, with the same number of requests at the same time.

Requests to the remote API are journalled, so a run that was interrupted is continued and not repeated.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from detr_onnx.bench.hosted.api import RemoteApi
from detr_onnx.bench.hosted.client import Client, RetryPolicy
from detr_onnx.bench.hosted.images import ComparedImage
from detr_onnx.bench.hosted.journal import Journal, LatencyRun
from detr_onnx.bench.hosted.journal_lines import Line
from detr_onnx.bench.hosted.threads import ImageThreads
from detr_onnx.bench.timings import quantile
from detr_onnx.detector import Detector

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
PHASES = ("send_ms", "wait_ms", "transfer_ms")
CONNECT_PHASES = ("dns_ms", "tcp_ms", "tls_ms")

ShowImage = Callable[[int, ComparedImage], None]


@dataclass(frozen=True)
class TimedRun:
    """Times of requests of one uninterrupted run.

    Attributes:
        times_ms: of each request.
        wall_s: from the beginning of the first to the end of the last.
    """

    times_ms: Sequence[float]
    wall_s: float


def schedule(images: Sequence[ComparedImage], requests: int) -> list[ComparedImage]:
    """The images of the requests, in turn."""
    return [images[number % len(images)] for number in range(requests)] if images else []


def split_schedule(scheduled: Sequence[ComparedImage], lines: Iterable[Line]) -> tuple[list[Line], list[ComparedImage]]:
    """The journal's lines that are requests of the schedule, and the images whose requests are still to be made.

    Each request of the schedule has at most one line, the first of its image that no other request has.
    """
    wanted = Counter(image.sha256 for image in scheduled)
    made = []
    for line in lines:
        if wanted[line["sha256"]] > 0:
            wanted[line["sha256"]] -= 1
            made.append(line)
    left = []
    for image in reversed(scheduled):
        if wanted[image.sha256] > 0:
            wanted[image.sha256] -= 1
            left.append(image)
    return made, left[::-1]


def measure_remote(
    images: Sequence[ComparedImage],
    remote: RemoteApi,
    retry_policy: RetryPolicy,
    journal: Journal,
    concurrency: int,
    show: ShowImage,
) -> None:
    """Sends the images, so many at the same time, and journals each request.

    Raises:
        RemoteApiError: the remote API refuses all requests.
        OutputError: the journal cannot be written.
    """
    run, stop, started = LatencyRun(uuid.uuid4().hex, concurrency), threading.Event(), time.perf_counter()

    @contextlib.contextmanager
    def open_worker() -> Iterator[Callable[[ComparedImage], None]]:
        client = Client(remote, retry_policy, stop)

        def send(image: ComparedImage) -> None:
            reply = client.send(image.read())
            started_s = time.perf_counter() - started - reply.ms / 1e3
            journal.add_latency(image.sha256, remote, reply, run, started_s)

        with contextlib.closing(client):
            yield send

    ImageThreads(open_worker, stop, show).run(images, concurrency)


def measure_local(
    images: Sequence[ComparedImage], detector: Detector, threshold: float, concurrency: int, show: ShowImage
) -> TimedRun:
    """Times the detector on the same images, in so many threads; each time is from encoded bytes to detections."""
    times: list[tuple[float, float]] = []

    def detect(image: ComparedImage) -> None:
        content = image.read()
        started = time.perf_counter()
        detector(content, threshold)
        times.append((started, time.perf_counter()))

    ImageThreads(lambda: contextlib.nullcontext(detect), threading.Event(), show).run(images, concurrency)
    wall_s = max(end for _, end in times) - min(begin for begin, _ in times) if times else 0.0
    return TimedRun([(end - begin) * 1e3 for begin, end in times], wall_s)


def timed_runs_of(lines: Iterable[Line]) -> list[TimedRun]:
    """The answered requests of a journal, by the run that they belong to."""
    runs: dict[str, list[Line]] = {}
    for line in lines:
        if line["outcome"] == "answered":
            runs.setdefault(line["run"], []).append(line)
    return [
        TimedRun(
            [line["ms"] for line in run],
            max(line["started_s"] + line["ms"] / 1e3 for line in run) - min(line["started_s"] for line in run),
        )
        for run in runs.values()
    ]


def latency_of(timed_runs: Sequence[TimedRun]) -> dict[str, Any]:
    """How many requests, their percentiles in milliseconds, and requests per second."""
    times, wall_s = [ms for timed_run in timed_runs for ms in timed_run.times_ms], sum(s.wall_s for s in timed_runs)
    return percentiles(times) | {"per_second": round(len(times) / wall_s, 3) if wall_s else None}


def percentiles(times_ms: Iterable[float]) -> dict[str, float | int]:
    """How many times there are, and p50, p90 and p99 of them, in milliseconds; only the count if there are none."""
    ordered = sorted(times_ms)
    named = {name: round(quantile(ordered, share), 3) for name, share in PERCENTILES.items()} if ordered else {}
    return {"count": len(ordered), **named}


def remote_latency_of(lines: Sequence[Line]) -> dict[str, Any]:
    """The same of a remote API's requests, with the phases of a request and of opening a connection, as medians.

    `server_ms` is the server's own time, and `network_ms` the rest of those requests, where a header gives it. Without
    one, `server_most_ms` bounds it: the wait includes a round trip, which opening a TCP connection also takes.
    `answers_changed` counts answers that differ from the first one to the same image.
    """
    answered = [line for line in lines if line["outcome"] == "answered"]
    timings = [line["timing"] for line in answered if line["timing"] is not None]
    connects = [timing["connect"] for timing in timings if timing["connect"] is not None]
    with_server = [timing for timing in timings if timing["server_ms"] is not None]
    network = [sum(timing[phase] for phase in PHASES) - timing["server_ms"] for timing in with_server]
    phases = {phase: _median(timing[phase] for timing in timings) for phase in PHASES}
    opening = {phase: _median(c[phase] for c in connects if c[phase] is not None) for phase in CONNECT_PHASES}
    return latency_of(timed_runs_of(lines)) | {
        "failed": len(lines) - len(answered),
        "retries": sum(len(line["retried"]) for line in lines),
        "answers_changed": sum(line.get("same_answer") is False for line in answered),
        **phases,
        "server_ms": _median(timing["server_ms"] for timing in with_server),
        "network_ms": _median(network),
        "server_times": len(with_server),
        "server_most_ms": _without(phases["wait_ms"], opening["tcp_ms"]),
        "connections": len(connects),
        **opening,
    }


def _without(wait_ms: float | None, round_trip_ms: float | None) -> float | None:
    if wait_ms is None or round_trip_ms is None:
        return None
    return round(max(0.0, wait_ms - round_trip_ms), 3)


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(statistics.median(listed), 3) if listed else None
