"""The directory of a page, with the models' caches."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detr_onnx import hub as hub_module
from tests.docs.stage import Stage, settings, write_hub


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Hugging Face's cache with the stand-ins, and an empty one of graphs."""
    directory = tmp_path_factory.mktemp("models")
    return write_hub(directory / "hub"), directory / "cache"


@pytest.fixture
def stage_of(tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that returns the stage of a page, in which this process then is, too."""
    if os.name == "nt" or shutil.which("bash") is None:
        pytest.skip("the documentation's commands are for a POSIX shell")
    stages = []
    _switch_off_requests(models[0], monkeypatch)  # first: an import with these variables would keep their values
    for name, value in settings(*models).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(hub_module.fetch.__kwdefaults__, "pinned", ())

    def stage_of(page: Path) -> Stage:
        stages.append(Stage.of(page, tmp_path, *models))
        monkeypatch.chdir(stages[-1].directory)
        return stages[-1]

    yield stage_of
    for stage in stages:
        stage.close()


def _switch_off_requests(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets what huggingface_hub reads from the environment when it is imported."""
    if importlib.util.find_spec("huggingface_hub"):
        constants = importlib.import_module("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
