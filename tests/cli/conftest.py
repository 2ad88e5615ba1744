"""Fixtures of the command line: a directory with images, and running a command in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_onnx import Detector
from tests.cli.command_line import complaint, outcome
from tests.small_model import sample_image


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """The working directory, with three images."""
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for seed, (name, size) in enumerate([("a.png", (64, 48)), ("b.jpg", (90, 40)), ("deep/c.png", (40, 40))]):
        Path(name).parent.mkdir(exist_ok=True)
        sample_image(*size, seed).save(name)
    return tmp_path


@pytest.fixture
def run(album, graph, capsys):
    """Runs a command line on the small graph; its exit status, stdout and stderr."""

    def run(*arguments: str, model: object = graph) -> tuple[int, str, str]:
        chosen = ["-m", model] if arguments[0] == "detect" and model is not None else []
        return outcome([*arguments, *chosen], capsys)

    return run


@pytest.fixture
def refused(run):
    """The one line that a command line ends with."""

    def refused(*arguments: object, status: int = 1, **options: object) -> str:
        return complaint(run(*arguments, **options), status)

    return refused


@pytest.fixture
def no_detection(monkeypatch):
    """Fails the test if a detection is run."""

    def called(*arguments, **options):
        raise AssertionError("a detection was run")

    monkeypatch.setattr(Detector, "__call__", called)
