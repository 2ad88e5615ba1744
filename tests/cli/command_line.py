"""Running the command line within a test or as a process, and reading its errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from detr_onnx.cli import main as cli

ROOT = Path(__file__).parents[2]

Outcome = tuple[int, str, str]
"""Exit status, stdout, stderr."""

PREFIX = "detr-onnx: error: "


def outcome(argv: Sequence[object], capsys: pytest.CaptureFixture[str]) -> Outcome:
    """Runs a command line; it never shows a traceback."""
    try:
        status = cli.main([*map(str, argv)])
    except SystemExit as ended:  # argparse's
        status = int(ended.code or 0)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


def complaint(ended: Outcome, status: int) -> str:
    """The one line of an error, which leaves nothing on stdout and has this exit status."""
    assert ended[:2] == (status, ""), ended[2]
    err = ended[2]
    assert err.startswith(PREFIX)
    assert err.count("\n") == 1
    return err.removeprefix(PREFIX).rstrip("\n")


def in_a_process(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    """The command line as a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    command = [sys.executable, "-m", "detr_onnx", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    )
