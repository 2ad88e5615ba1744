"""Fixtures, and skips for tests whose packages are not installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from detr_onnx import Detector
from detr_onnx.errors import DetrError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.hub import fetch
from detr_onnx.models.metadata import read_model
from tests.small_model import write_panoptic_checkpoint, write_small_checkpoint

if TYPE_CHECKING:
    from tests.server.live_server import LiveServer
    from tests.video.standin_camera import Camera

ORACLE = ("torch", "transformers")
OFFICIAL = "facebook/detr-resnet-50"
OF_EXTRAS = {
    "onnx", "huggingface_hub", "pycocotools", "tqdm", "starlette", "uvicorn", "prometheus_client", "anyio", "httpx",
    "safetensors", "jsonschema", "openvino", "pyarrow", "av",
}  # fmt: skip
"""Packages that the core installation does not have. A test that needs a missing one is skipped."""


def missing_package(error: BaseException | None) -> str | None:
    """The package of an extra that is not installed, if that is the reason of an error."""
    while error is not None:
        name = (error.name or "").split(".")[0] if isinstance(error, ImportError) else ""
        if name in OF_EXTRAS and importlib.util.find_spec(name) is None:
            return name
        error = error.__cause__ or error.__context__
    return None


class Module(pytest.Module):
    """A test module that is skipped if it imports a package of an extra that is not installed."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return list(super().collect())
        except self.CollectError as error:
            if package := missing_package(error):
                pytest.skip(f"needs {package}", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Makes the modules of this directory skippable."""
    module: pytest.Module = Module.from_parent(parent, path=module_path)
    return module


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Skips a test whose fixtures need a missing package."""
    try:
        return (yield)
    except Exception as error:
        skip_without_package(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skips a test that needs a missing package."""
    try:
        return (yield)
    except BaseException as error:
        skip_without_package(error)
        raise


def skip_without_package(error: BaseException) -> None:
    """Raises Skipped if the error comes from a missing package of an extra."""
    if package := missing_package(error):
        pytest.skip(f"needs {package}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips comparisons with torch if it is not installed."""
    missing = [name for name in ORACLE if importlib.util.find_spec(name) is None]
    skip = pytest.mark.skip(reason=f"compares with {' and '.join(ORACLE)}; not installed: {', '.join(missing)}")
    for item in items:
        if missing and item.get_closest_marker("oracle"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def official_weights() -> Path:
    """The official weights, from DETR_ONNX_WEIGHTS or the cache; nothing is downloaded."""
    return cached_weights(OFFICIAL, "DETR_ONNX_WEIGHTS")


@pytest.fixture(scope="session")
def panoptic_weights() -> Path:
    """The official panoptic weights, from DETR_ONNX_PANOPTIC_WEIGHTS or the cache; nothing is downloaded."""
    return cached_weights(f"{OFFICIAL}-panoptic", "DETR_ONNX_PANOPTIC_WEIGHTS")


def cached_weights(model: str, variable: str) -> Path:
    if named := os.environ.get(variable):
        return Path(named)
    try:
        return fetch(model, offline=True)
    except DetrError:
        pytest.skip(f"{model} is not in the cache, and {variable} is not set")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small seeded checkpoint."""
    return write_small_checkpoint(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="session")
def panoptic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small seeded panoptic checkpoint."""
    return write_panoptic_checkpoint(tmp_path_factory.mktemp("panoptic"))


@pytest.fixture(scope="module")
def graph(small: Path) -> Path:
    """The graph of `small`, in its own directory."""
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
    from tests.server.live_server import LiveServer  # needs the extra `serve`

    with LiveServer(detector) as server:
        yield server


@pytest.fixture
def camera() -> Iterator[Camera]:
    """An RTSP camera on loopback; the test is skipped where there is no RTSP server."""
    from tests.video.standin_camera import PACKAGES, Camera, has_rtsp_server

    if not has_rtsp_server():
        pytest.skip(f"needs GStreamer's RTSP server: apt-get install {PACKAGES}")
    with Camera() as camera:
        yield camera
