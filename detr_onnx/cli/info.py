"""What there is to run on: versions, engines, providers, cached models, the processor."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator

from detr_onnx import __version__
from detr_onnx.cache import Entry, cache_directory, list_entries
from detr_onnx.engines.cpu import cpu_features, processor
from detr_onnx.errors import EngineError
from detr_onnx.hub import cached_models

PACKAGES = ("numpy", "pillow", "onnxruntime", "onnx", "huggingface_hub", "openvino")
OTHER_RUNTIMES = ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")


def description(cache_dir: str | os.PathLike[str] | None = None) -> Iterator[str]:
    """Lines for people: `name: value`."""
    yield f"detr-onnx: {__version__}"
    yield f"python: {platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in (*PACKAGES, *filter(version_of, OTHER_RUNTIMES)):
        yield f"{package}: {version_of(package) or 'not installed'}"
    yield f"engines: {', '.join(engines())}"
    yield f"providers of onnxruntime: {providers()}"
    yield f"processor: {processor()}, {os.cpu_count()} cores, {' '.join(cpu_features()) or 'features not known'}"
    yield f"cache: {cache_directory(cache_dir)}"
    yield from (f"  model {_entry(entry)}" for entry in cached_models(cache_dir))
    yield from (f"  graph {_entry(entry)}" for entry in list_entries(cache_dir))


def version_of(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def engines() -> list[str]:
    """The engines that can run here, and what they cannot run for want of a package."""
    installed = {name for name in ("onnxruntime", "openvino", "onnx") if importlib.util.find_spec(name) is not None}
    limit = "" if "onnx" in installed else " (only .onnx files; pip install 'detr-onnx[export]')"
    return ["numpy", *(name + limit for name in ("onnxruntime", "openvino") if name in installed)]


def providers() -> str:
    """Execution providers of the installed ONNX Runtime, or why there are none."""
    from detr_onnx.engines.onnxruntime import import_onnxruntime

    try:
        return ", ".join(import_onnxruntime().get_available_providers())
    except EngineError as error:
        return f"none ({error.found})"


def _entry(entry: Entry) -> str:
    return f"{entry.name}  {entry.bytes / 1e6:.1f} MB"
