"""What tests share: which of them can run here, and the official weights where they are at hand."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from detr_onnx import Detector
from detr_onnx.errors import DetrError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.hub import fetch
from detr_onnx.models.metadata import read_model
from tests.small_model import write_small_checkpoint

if TYPE_CHECKING:
    from tests.server.live_server import LiveServer

ORACLE = ("torch", "transformers")
OFFICIAL = "facebook/detr-resnet-50"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what compares with torch where torch is not installed."""
    missing = [name for name in ORACLE if importlib.util.find_spec(name) is None]
    skip = pytest.mark.skip(reason=f"compares with {' and '.join(ORACLE)}; not installed: {', '.join(missing)}")
    for item in items:
        if missing and item.get_closest_marker("oracle"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def official_weights() -> Path:
    """The directory or file with the official weights: DETR_ONNX_WEIGHTS, else the cache; nothing is downloaded."""
    if named := os.environ.get("DETR_ONNX_WEIGHTS"):
        return Path(named)
    try:
        return fetch(OFFICIAL, offline=True)
    except DetrError:
        pytest.skip(f"{OFFICIAL} is not in the cache, and DETR_ONNX_WEIGHTS does not say where else it is")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small seeded checkpoint."""
    return write_small_checkpoint(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def graph(small: Path) -> Path:
    """The graph of `small`, in a directory of its own."""
    path = small.parent / "graphs" / "small.onnx"
    path.parent.mkdir()
    write_onnx(path, *read_model(small), ExportOptions())
    return path


@pytest.fixture(scope="module")
def detector() -> Detector:
    """The demo model."""
    return Detector("demo")


@pytest.fixture(scope="module")
def server(detector: Detector) -> Iterator[LiveServer]:
    """A server of that model."""
    from tests.server.live_server import LiveServer  # needs what the extra `serve` brings

    with LiveServer(detector) as server:
        yield server
