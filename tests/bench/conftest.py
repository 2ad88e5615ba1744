"""Fixtures of the tests of `compare-hosted`: images, a detector that is quick, and how the command is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks import hosted_api
from detr_onnx.bench import setting
from detr_onnx.cli import compare_hosted
from tests.bench.hosted_command import TOKEN, CatDetector, Run


@pytest.fixture
def account(monkeypatch):
    """Credentials for every dialect, and no note that the machine is busy."""
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "0123")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(setting, "QUIET_LOAD", 1e6)


@pytest.fixture
def quick(monkeypatch):
    """No network of ours is run."""
    monkeypatch.setattr(compare_hosted, "open_detector", lambda arguments: CatDetector())


@pytest.fixture
def images(tmp_path) -> Path:
    """A directory of five small images, two of them equal."""
    directory = tmp_path / "images"
    directory.mkdir()
    for number in range(4):
        Image.new("RGB", (64, 48), (60 * number, 90, 30)).save(directory / f"{number}.png")
    (directory / "again.png").write_bytes((directory / "0.png").read_bytes())
    return directory


@pytest.fixture
def run(tmp_path, capsys, account) -> Run:
    """Runs the command with a journal and both files of results, and without latency unless it is an option."""

    def run(images, *options):
        files = ["--journal", tmp_path / "journal", "--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
        latency = [] if "--latency-requests" in options else ["--latency-requests", 0]
        sources = images if isinstance(images, list) else [images]
        status = hosted_api.main([str(word) for word in [*sources, *files, "--backoff", 0, *latency, *options]])
        return status, *capsys.readouterr()

    return run
