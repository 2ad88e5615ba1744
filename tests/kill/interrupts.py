"""Ctrl-C at random moments: a quiet end, with exit status 130."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import IO

from tests.kill.run import Ended, Killer, Report
from tests.kill.scenarios import Scenario
from tests.kill.snapshot import is_temporary

INTERRUPTED = 130
BEFORE_PYTHON = -signal.SIGINT  # the interpreter does not handle signals yet; shells show 130, too
SERVES_S = 1.0  # how long the server runs after it has started

_MODEL = ("-m", "../inputs/small", "--engine", "numpy")

INT8 = ("--precision", "int8", "--calibrate", "../inputs/images", "--force")

INTERRUPTIBLE: Mapping[str, Scenario] = {
    "detect": Scenario(("detect", "../inputs/images", *_MODEL, "--save", "out/")),
    "detect-build": Scenario(
        ("detect", "../inputs/images/0.png", "-m", "../inputs/small", "--engine", "onnxruntime"),
        ("onnx", "onnxruntime"),
    ),
    "export": Scenario(("export", "../inputs/small", "-o", "m.ort"), ("onnx", "onnxruntime")),
    "export-int8": Scenario(("export", "../inputs/small", "-o", "m.onnx", *INT8), ("onnx", "onnxruntime")),
    "bench": Scenario(("bench", *_MODEL, "--runs", "1", "--image", "../inputs/images/0.png")),
    "serve": Scenario(("serve", *_MODEL, "--port", "0", "--no-access-log"), ("starlette", "uvicorn")),
}


def interrupt(name: str, count: int, seed: int, inputs: Path, home: Path) -> Report:
    """Presses Ctrl-C `count` times: the signal goes to the whole process group, as in a terminal."""
    killer = Killer(INTERRUPTIBLE[name], inputs, home, {})
    random, report = Random(seed), Report(_seconds(name, killer))
    for index in range(count):
        at_s = (index + random.random()) / count * report.seconds
        killer.arrange()
        ended = killer.run(killer.scenario.command, at_s, number=signal.SIGINT)
        outcome, fault = _judged(ended)
        report.outcomes[outcome] += 1
        report.outcomes["left something temporary"] += any(map(_is_left, killer.snapshot()))
        if fault:
            report.faults.append(f"at {at_s:.3f} s: {fault}")
    return report


def _is_left(path: str) -> bool:
    """Whether a path is a temporary file, which the next run removes; locks stay."""
    return is_temporary(path) and path != "tmp" and not path.endswith(".lock")


def _seconds(name: str, killer: Killer) -> float:
    """How long the command runs undisturbed."""
    killer.arrange()
    if name != "serve":
        return killer.run(killer.scenario.command).seconds
    with killer.start(killer.scenario.command) as process:
        started = _until_it_serves(process.stderr)
        process.terminate()
        process.communicate()
    return started + SERVES_S


def _until_it_serves(stderr: IO[bytes] | None) -> float:
    """Seconds until the server announces itself."""
    begun = time.monotonic()
    assert stderr is not None
    stderr.readline()
    return time.monotonic() - begun


def _judged(ended: Ended) -> tuple[str, str | None]:
    """The outcome, and what is wrong with it."""
    error = ended.stderr.decode(errors="replace")
    if "Traceback" in error and "detr_onnx" not in error:
        return "Python's own traceback, before the package was imported", None
    notes = error.splitlines()
    quiet = all(note.startswith("detr-onnx: ") and "error" not in note for note in notes)  # such as a server's address
    if ended.status in (INTERRUPTED, BEFORE_PYTHON) and quiet:
        return f"exit status {ended.status}", None
    if ended.status == 0 and "Traceback" not in error:
        return "exit status 0", None
    return f"exit status {ended.status}", f"exit status {ended.status}: {error[-600:]}"
