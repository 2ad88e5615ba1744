"""Rough clients, all at once: how they delay others, and how much memory they cost the server. And the soak test.

    python -m benchmarks.siege [--minutes 60] [--concurrency 32]

The misbehaving clients: a thousand connections that send nothing or half a header, bodies that arrive byte by byte,
chunked bodies of a gigabyte, images that claim four billion pixels, and JSON that is slow to parse.
`benchmarks.serving` runs them for seconds.

The soak test is a server of two workers with a panoptic model, requests of every protocol, each response compared with
`Detector`, and, every few seconds and in turns: the younger worker is killed; it is replaced after SIGTERM, as one
reloads a server (there is no signal for that); misbehaving clients attack, and it is killed meanwhile. The older worker
lives all along, so that its memory would show a leak.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.command import benchmark_parser, positive, run_main, write_results
from benchmarks.load import BOMB, LOST, RUN, WRONG, Kind, load, mixed, percentiles
from benchmarks.protocols import every_kind
from benchmarks.server import health_ms, kill, resident_mb, serving, workers
from detr_onnx import Detector
from detr_onnx.bench.setting import setting
from detr_onnx.server.run import raise_file_limit

SECONDS = 20
IDLE, SLOW, HUGE = 1000, 50, 4
MODEL, WORKERS = "demo-panoptic", 2
PAUSE_S, ATTACK_S, POLL_S = 10.0, 10.0, 0.5
LIMITS = {"requests": 100_000, "memory": 1.05}
MB = 1 << 20


def siege(address: str, pid: int) -> dict[str, Any]:
    """Milliseconds of the health check meanwhile, and the server's highest memory."""
    before = resident_mb(pid)
    health, memory = [], []
    with rough_clients(address):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            health.append(health_ms(address))
            memory.append(resident_mb(pid))
            time.sleep(0.05)
    return {
        "seconds": SECONDS,
        "idle_or_half_open": IDLE,
        "slow_bodies": SLOW,
        "gigabyte_bodies_at_once": HUGE,
        **percentiles(health),
        "memory_mb_before": round(before, 1),
        "memory_mb_most": round(max(memory), 1),
    }


@contextlib.contextmanager
def rough_clients(address: str) -> Iterator[None]:
    """A thousand idle or half-open connections and all attackers, until the end of the context."""
    finished = threading.Event()
    slow_json = json.dumps({"image": [[]] * 5_000_000}).encode()
    attackers = [
        *[threading.Thread(target=slow_body, args=(address, finished)) for _ in range(SLOW)],
        *[threading.Thread(target=huge_body, args=(address, finished)) for _ in range(HUGE)],
        threading.Thread(target=repeat, args=(address, finished, BOMB, "image/png")),
        threading.Thread(target=repeat, args=(address, finished, slow_json, "application/json")),
    ]
    with contextlib.ExitStack() as stack:
        for number in range(IDLE):
            connection = stack.enter_context(connected(address))
            if number % 2:
                connection.sendall(head(100).encode()[:-2])
        for thread in attackers:
            thread.start()
        try:
            yield
        finally:
            finished.set()
            for thread in attackers:
                thread.join()


def connected(address: str) -> socket.socket:
    """A TCP connection to the server."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def head(length: int | None, kind: str = "") -> str:
    """The head of a request; without a length, its body is chunked."""
    body = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    return f"POST {RUN} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind or 'image/jpeg'}\r\n{body}\r\n\r\n"


def slow_body(address: str, finished: threading.Event) -> None:
    """Sends a byte every tenth of a second."""
    with contextlib.suppress(OSError), connected(address) as connection:
        connection.sendall(head(1000).encode())
        while not finished.wait(0.1):
            connection.sendall(b"x")


def huge_body(address: str, finished: threading.Event) -> None:
    """Sends chunked bodies of a gigabyte, each for as long as the server reads."""
    chunk = b"%x\r\n" % MB + bytes(MB) + b"\r\n"
    while not finished.is_set():
        with contextlib.suppress(OSError), connected(address) as connection:
            connection.sendall(head(None).encode())
            for _ in range(1024):
                connection.sendall(chunk)
                if finished.is_set():
                    break


def repeat(address: str, finished: threading.Event, body: bytes, kind: str) -> None:
    """Sends the same request again and again."""
    while not finished.is_set():
        with contextlib.suppress(OSError), connected(address) as connection:
            connection.sendall(head(len(body), kind).encode() + body)
            connection.recv(10_000)


def soak(address: str, server: int, kinds: list[Kind], seconds: float, concurrency: int) -> dict[str, Any]:
    """What became of the requests in so many seconds, and how often a worker was killed, replaced and attacked."""
    oldest, finished = workers(server)[0], threading.Event()
    killed: set[int] = set()
    events, before_mb = Counter[str](), resident_mb(server)
    disturber = threading.Thread(target=disturb, args=(address, server, killed, events, finished))
    disturber.start()
    try:
        results = load(address, oldest, for_seconds(mixed(kinds), seconds), concurrency, killed)
    finally:
        finished.set()
        disturber.join()
    return {
        **results,
        "events": dict(events),
        "supervisor_mb": [round(mb, 1) for mb in (before_mb, resident_mb(server))],
        "oldest_lived": oldest in workers(server),
    }


def for_seconds(requests: Iterator[Kind], seconds: float) -> Iterator[Kind]:
    """The requests until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield next(requests)


def disturb(address: str, server: int, killed: set[int], events: Counter[str], finished: threading.Event) -> None:
    """Kills and replaces the younger worker and lets misbehaving clients attack, in turns; counts that in `events`."""

    def kill_younger() -> None:
        if pid := younger(server, finished):
            kill(pid, killed)
            events["kills"] += 1

    while not finished.wait(PAUSE_S):
        kill_younger()
        if not finished.wait(PAUSE_S) and (pid := younger(server, finished)):
            os.kill(pid, signal.SIGTERM)
            events["reloads"] += 1
        if not finished.wait(PAUSE_S):
            with rough_clients(address):
                finished.wait(ATTACK_S / 2)
                kill_younger()
                finished.wait(ATTACK_S / 2)
            events["attacks"] += 1


def younger(server: int, finished: threading.Event) -> int | None:
    """The worker that started last, once there are two; None if the test has finished before."""
    while len(pids := workers(server)) < WORKERS:
        if finished.wait(POLL_S):
            return None
    return pids[-1]


def faults(results: dict[str, Any]) -> list[str]:
    """What must not have happened, in words."""
    counts = {name: sum(results[name].values()) for name in (WRONG, LOST)}
    found = [f"{count} requests are {name}: {results[name]}" for name, count in counts.items() if count]
    if not results["oldest_lived"]:
        found.append("the older worker has ended by itself")
    if results["exit_status"]:
        found.append(f"the server ended with status {results['exit_status']}")
    return found


def main() -> int:
    """The soak test: runs it and writes the results; 1 if something happened that must not."""
    parser = benchmark_parser("benchmarks.siege", "A server's soak test.", results="siege")
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--concurrency", type=positive, default=32, metavar="N", help="clients (default: %(default)s)")
    arguments = parser.parse_args()
    results = {**setting("python -m benchmarks.siege", sys.argv[1:]), "model": MODEL, "workers": WORKERS}
    raise_file_limit()
    kinds = every_kind(Detector(MODEL))
    with serving("-m", MODEL, "--workers", str(WORKERS)) as (process, address):
        time.sleep(PAUSE_S)  # until the second worker serves, too
        results |= soak(address, process.pid, kinds, arguments.minutes * 60, arguments.concurrency)
    results |= {"exit_status": process.returncode, "limits": LIMITS}
    write_results(arguments.json, results)
    found = faults(results)
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    run_main(main)
