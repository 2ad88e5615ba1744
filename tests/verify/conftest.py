"""A small model to verify, with few and small images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from detr_onnx.hub import fetch
from detr_onnx.verify import files
from detr_onnx.verify import run as verify_run
from detr_onnx.verify.images import Case
from tests.cli.command_line import complaint, outcome
from tests.small_model import sample_image
from tests.standin_hub import StandInHub
from tests.verify.pinned import COMMIT, FILES, NAME, OFFICIAL, pinned_as


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


@pytest.fixture
def stand_in(small, tmp_path, monkeypatch) -> Iterator[StandInHub]:
    """A hub with the small model, whose files are pinned under two names, and not under a third."""
    hub_utils = pytest.importorskip("huggingface_hub.utils")
    content = {name: (small / name).read_bytes() for name in FILES}
    monkeypatch.setitem(fetch.__kwdefaults__, "pinned", pinned_as(content))
    monkeypatch.setattr(files, "PINNED", pinned_as(content))
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    hub_utils.disable_progress_bars()  # their setting in the environment is read at import only
    with StandInHub() as hub:
        for name in (NAME, OFFICIAL):
            hub.add(name, content, commit=COMMIT)
        # with the same config.json it would be recognised as the pinned model
        hub.add("owner/other", content | {"config.json": content["config.json"] + b"\n"})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub
    hub_utils.enable_progress_bars()
