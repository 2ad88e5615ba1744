"""A small model to verify, with few and small images."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_onnx.verify import run as verify_run
from detr_onnx.verify.images import Case
from tests.cli.command_line import complaint, outcome
from tests.small_model import sample_image


@pytest.fixture(autouse=True)
def few_images(request, tmp_path, monkeypatch) -> Path:
    """An empty working directory and cache, and three small cases."""
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DETR_ONNX_GOLDEN_IMAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    images = [sample_image(*size, seed) for seed, size in enumerate([(90, 60), (61, 83), (64, 30)])]
    small = [*(Case(f"image {i.width}x{i.height}", (i,)) for i in images), Case("a batch", (images[0], images[1]))]
    monkeypatch.setattr(verify_run, "cases", lambda: small)
    return tmp_path


@pytest.fixture
def verify(capsys):
    """Runs `detr-onnx verify`; exit status, stdout, stderr."""

    def verify(*arguments: object) -> tuple[int, str, str]:
        return outcome(["verify", *arguments], capsys)

    return verify


@pytest.fixture
def refused(verify):
    """The one line that `verify` ends with."""

    def refused(*arguments: object, status: int = 1) -> str:
        return complaint(verify(*arguments), status)

    return refused
