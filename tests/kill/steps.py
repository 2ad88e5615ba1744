"""Kills before every single change that a command makes to its files: what random moments hit only by luck.

The process kills itself. Changes by compiled libraries are not seen, such as ONNX Runtime's writing of a graph.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.kill.run import KILLED, ROOT, Killer, Report, Right
from tests.kill.scenarios import Scenario

MOST_STEPS = 500
HOOK = """
import os, signal, sys

ROOT, LEFT = os.environ["KILL_ROOT"], [int(os.environ.pop("KILL_BEFORE"))]
del os.environ["KILL_ROOT"]  # children live
CHANGES = {"rename", "remove", "mkdir", "rmdir", "link", "symlink", "truncate", "chmod", "utime"}
CHANGES = {"open", *("os." + name for name in CHANGES)}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def is_change(event, arguments):
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
        return False
    paths = [os.fsdecode(path) for path in arguments if isinstance(path, (str, bytes))]
    return any(os.path.abspath(path).startswith(ROOT) for path in paths)

def hook(event, arguments):
    if event in CHANGES and is_change(event, arguments):
        LEFT[0] -= 1
        if LEFT[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""


def kill_before_each_change(scenario: Scenario, inputs: Path, home: Path) -> Report:
    """Kills the command before its first change of a file, before the second, and so on until it ends by itself."""
    hook = home / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    with scenario.server(inputs) as variables:
        killer = Killer(scenario, inputs, home, variables)
        right = killer.undisturbed()
        report = Report(right.ended.seconds)
        for step in range(MOST_STEPS):
            if not _kill_before(step, killer, hook, right, report):
                break
    return report


def _kill_before(step: int, killer: Killer, hook: Path, right: Right, report: Report) -> bool:
    """One kill and the next run; False if the command ended before that many changes."""
    before = killer.arrange()
    path = os.pathsep.join([str(hook), str(ROOT)])
    extra = {"PYTHONPATH": path, "KILL_ROOT": str(killer.place), "KILL_BEFORE": str(step)}
    killed = killer.run(killer.scenario.command, extra=extra)
    if killed.status != -signal.SIGKILL:
        assert killed.status == 0, killed.stderr.decode()
        return False
    report.outcomes[KILLED] += 1
    killer.check(right, before, report, f"before change {step}")
    return True
