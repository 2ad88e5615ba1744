"""Rough clients, all at once: how they delay others, and how much memory they cost the server.

A thousand connections that send nothing or half a header, bodies that arrive byte by byte, chunked bodies of a
gigabyte, images that claim four billion pixels, and JSON that is slow to parse.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import threading
import time
from typing import Any

from benchmarks.load import RUN, health_ms, resident_mb

SECONDS = 20
IDLE, SLOW, HUGE = 1000, 50, 4
MB = 1 << 20


def siege(address: str, pid: int, bomb: bytes) -> dict[str, Any]:
    """Milliseconds of the health check meanwhile, and the server's highest memory."""
    before = resident_mb(pid)
    finished = threading.Event()
    slow_json = json.dumps({"image": [[]] * 5_000_000}).encode()
    attackers = [
        *[threading.Thread(target=slow_body, args=(address, finished)) for _ in range(SLOW)],
        *[threading.Thread(target=huge_body, args=(address, finished)) for _ in range(HUGE)],
        threading.Thread(target=repeat, args=(address, finished, bomb, "image/png")),
        threading.Thread(target=repeat, args=(address, finished, slow_json, "application/json")),
    ]
    health, memory = [], []
    with contextlib.ExitStack() as stack:
        for number in range(IDLE):
            connection = stack.enter_context(connected(address))
            if number % 2:
                connection.sendall(head(100).encode()[:-2])
        for thread in attackers:
            thread.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            health.append(health_ms(address))
            memory.append(resident_mb(pid))
            time.sleep(0.05)
        finished.set()
        for thread in attackers:
            thread.join()
    return {
        "seconds": SECONDS,
        "idle_or_half_open": IDLE,
        "slow_bodies": SLOW,
        "gigabyte_bodies_at_once": HUGE,
        "health_ms_p50": round(statistics.median(health), 1),
        "health_ms_p99": round(sorted(health)[int(len(health) * 0.99) - 1], 1),
        "health_ms_max": round(max(health), 1),
        "memory_mb_before": round(before, 1),
        "memory_mb_most": round(max(memory), 1),
    }


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
