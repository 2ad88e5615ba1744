"""Running the command line within a test, and what it may say when it refuses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from detr_onnx.cli import main as cli

Outcome = tuple[int, str, str]
"""Exit status, stdout, stderr."""

PREFIX = "detr-onnx: error: "


def outcome(argv: Sequence[object], capsys: pytest.CaptureFixture[str]) -> Outcome:
    """What a command line ends with, which is never a traceback."""
    try:
        status = cli.main([*map(str, argv)])
    except SystemExit as ended:  # argparse's
        status = int(ended.code or 0)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


def complaint(found: Outcome, status: int) -> str:
    """The one line of a refusal: nothing on stdout, this exit status."""
    assert found[:2] == (status, ""), found[2]
    err = found[2]
    assert err.startswith(PREFIX)
    assert err.count("\n") == 1
    return err.removeprefix(PREFIX).rstrip("\n")
