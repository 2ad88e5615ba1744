"""The smallest memory limit with which a container of examples/kubernetes works, and how long it starts and drains.

    python -m benchmarks.limits [--clients 8] [--requests 32]

Processes run in a control group (version 1 or 2; needs root on Linux) with limits from small to large until one ends
well. The server runs with the options of deployment.yaml and gets photographs from several clients at once, every
eighth of 12 megapixels; then SIGTERM, with requests under way. The job reads photographs, one of them of 12 megapixels.
Each is tried with an empty cache, where the graph is built, and with a filled one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.command import benchmark_parser, positive, run_main, write_results
from benchmarks.load import RUN
from benchmarks.memory import subject_paths
from benchmarks.server import listening
from benchmarks.setting import environment
from benchmarks.subject import PHOTOGRAPH_WH
from detr_onnx.bench.setting import setting
from detr_onnx.verify.sample_photo import jpeg

LIMITS_MB = (256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 2048, 3072)
LARGE_WH, LARGE_EACH = (4000, 3000), 8
JOB_IMAGES = 10
CLIENTS, REQUESTS = 8, 32
SENT_S = 0.5  # until a request is at the server
TIMEOUT_S = 300.0
SERVE_OPTIONS = ("--drain-delay", "10")  # those of deployment.yaml
GROUPS = Path("/sys/fs/cgroup")
FILES = {GROUPS / "memory": "memory.limit_in_bytes", GROUPS: "memory.max"}  # version 1, version 2
Variables = dict[str, str]
Outcome = dict[str, float] | None
SWAP = ("memory.memsw.limit_in_bytes", "memory.swap.max")


@contextlib.contextmanager
def limited(mb: int) -> Iterator[list[str]]:
    """The first words of a command that runs with so much memory and without swap."""
    parent, name = next((parent, name) for parent, name in FILES.items() if parent.is_dir())
    group = parent / f"detr-onnx-{os.getpid()}"
    group.mkdir()
    try:
        (group / name).write_text(str(mb << 20))
        for swap in SWAP:
            if (group / swap).exists():
                (group / swap).write_text("0" if swap.endswith("max") else str(mb << 20))
        yield ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
    finally:
        group.rmdir()


def serve(prefix: list[str], model: str, bodies: list[bytes], clients: int, variables: Variables) -> Outcome:
    """Seconds until the server was ready and until it had drained; None if it died or an answer was not a 200."""
    options = ["-m", model, "--port", "0", "--no-access-log", *SERVE_OPTIONS]
    command = [*prefix, sys.executable, "-m", "detr_onnx", "serve", *options]
    start = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables) as process:
        try:
            address = listening(process)
            ready_s = time.monotonic() - start
            if not address or not all(answers(address, bodies, clients)):
                return None
            drained_s = drain(process, address, bodies[:clients])
            return {"ready_s": round(ready_s, 1), "drained_s": round(drained_s, 1)} if drained_s else None
        finally:
            process.kill()


def drain(process: subprocess.Popen[str], address: str, bodies: list[bytes]) -> float | None:
    """Seconds from SIGTERM, with these requests under way, to the end; None if one was lost or the status is not 0."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        under_way = [pool.submit(is_answered, address, body) for body in bodies]
        time.sleep(SENT_S)
        process.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        status = process.wait(TIMEOUT_S)
        drained_s = time.monotonic() - stopped
        return drained_s if status == 0 and all(each.result() for each in under_way) else None


def answers(address: str, bodies: list[bytes], clients: int) -> list[bool]:
    """Whether each image was answered with 200; so many clients send at once."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(functools.partial(is_answered, address), bodies))


def is_answered(address: str, body: bytes) -> bool:
    """Whether an image was answered with 200."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=TIMEOUT_S)) as connection:
        try:
            connection.request("POST", RUN, body)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def job(prefix: list[str], model: str, folder: Path, out: Path, variables: Variables) -> Outcome:
    """Seconds of a job over a folder; None if it did not end with 0."""
    shutil.rmtree(out, ignore_errors=True)
    command = [*prefix, sys.executable, "-m", "detr_onnx", "detect", str(folder), "-o", str(out), "-m", model]
    start = time.monotonic()
    ended = subprocess.run(command, env=variables, capture_output=True, timeout=10 * TIMEOUT_S)
    return {"seconds": round(time.monotonic() - start, 1)} if ended.returncode == 0 else None


def smallest(run: Callable[[list[str]], Outcome], before: Callable[[], None]) -> dict[str, Any]:
    """The smallest limit with which `run` ends well twice, and what it returned; `before` is called before each run."""
    for mb in LIMITS_MB:
        found: Outcome = {}
        for _ in range(2):
            before()
            with limited(mb) as prefix:
                found = run(prefix) if found is not None else None
        print(f"{mb} MB: {found or 'not enough'}", file=sys.stderr)
        if found:
            return {"limit_mb": mb, **found}
    return {"limit_mb": None}


def rows(arguments: argparse.Namespace, model: str) -> Iterator[dict[str, Any]]:
    """A row for each program and cache."""
    variables = environment(arguments.work, arguments.threads)
    cache = Path(variables["DETR_ONNX_CACHE"])
    images = [jpeg(*PHOTOGRAPH_WH), jpeg(*LARGE_WH)]
    bodies = [images[i % LARGE_EACH == 0] for i in range(arguments.requests)]
    folder = arguments.work / "limits"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(JOB_IMAGES):
        (folder / f"{i}.jpg").write_bytes(images[i == 1])
    programs: dict[str, Callable[[list[str]], Outcome]] = {
        "serve": lambda prefix: serve(prefix, model, bodies, arguments.clients, variables),
        "detect -o": lambda prefix: job(prefix, model, folder, arguments.work / "limits-out", variables),
    }
    for program, run in programs.items():
        for is_filled, before in ((False, lambda: shutil.rmtree(cache, ignore_errors=True)), (True, lambda: None)):
            print(f"{program}, {'filled' if is_filled else 'empty'} cache", file=sys.stderr)
            yield {"program": program, "cache_filled": is_filled, **smallest(run, before)}


def main() -> None:
    """Measures and writes the results."""
    shared = ("--work", "--model", "--threads")
    parser = benchmark_parser("benchmarks.limits", "Memory limits of containers.", *shared, results="limits")
    parser.add_argument("--clients", type=positive, default=CLIENTS, metavar="N", help="at once (default: %(default)s)")
    parser.add_argument(
        "--requests", type=positive, default=REQUESTS, metavar="N", help="in all (default: %(default)s)"
    )
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.limits", sys.argv[1:])
    subject = subject_paths(arguments.work, arguments.model)
    results = {
        **head,
        "model": subject["title"],
        "threads": arguments.threads,
        "clients": arguments.clients,
        "requests": arguments.requests,
        "rows": [*rows(arguments, subject["model"])],
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
