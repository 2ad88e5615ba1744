"""`detr-onnx info`: versions, engines, providers, the processor and cached models."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from detr_onnx import __version__
from detr_onnx.cli.console import print_result
from detr_onnx.cli.options import add_cache_dir, add_verbose
from detr_onnx.errors import EngineError

if TYPE_CHECKING:
    from detr_onnx.cache import Entry

HELP = "show versions, engines, cached models and the processor"
USAGE = "%(prog)s [options]"
PACKAGES = ("numpy", "pillow", "onnxruntime", "onnx", "huggingface_hub", "openvino")
OTHER_RUNTIMES = ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")


def add_arguments(parser: ArgumentParser) -> None:
    add_verbose(parser)
    add_cache_dir(parser)


def run(arguments: Namespace) -> int:
    for line in describe(arguments.cache_dir):
        print_result(line + "\n")
    return 0


def describe(cache_dir: str | os.PathLike[str] | None = None) -> Iterator[str]:
    """Lines of the form `name: value`."""
    import platform

    from detr_onnx.cache import cache_directory, list_entries
    from detr_onnx.engines.cpu import cpu_features, processor
    from detr_onnx.hub.snapshots import cached_models, models_directory

    yield f"detr-onnx: {__version__}"
    yield f"python: {platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in (*PACKAGES, *filter(version_of, OTHER_RUNTIMES)):
        yield f"{package}: {version_of(package) or 'not installed'}"
    yield f"engines: {', '.join(installed_engines())}"
    yield f"providers of onnxruntime: {installed_providers()}"
    yield f"processor: {processor()}, {os.cpu_count()} cores, {' '.join(cpu_features()) or 'features not known'}"
    yield f"models: {models_directory(cache_dir)}"
    yield from (f"  model {_name_and_size(entry)}" for entry in cached_models(cache_dir))
    yield f"cache: {cache_directory(cache_dir)}"
    yield from (f"  graph {_name_and_size(entry)}" for entry in list_entries(cache_dir))


def version_of(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def installed_engines() -> list[str]:
    """The engines that can run here, each with the limit that a missing package puts on it."""
    from importlib.util import find_spec

    installed = {name for name in ("onnxruntime", "openvino", "onnx") if find_spec(name) is not None}
    limit = "" if "onnx" in installed else " (only .onnx files; pip install 'detr-onnx[export]')"
    return ["numpy", *(name + limit for name in ("onnxruntime", "openvino") if name in installed)]


def installed_providers() -> str:
    """Execution providers of the installed ONNX Runtime, or why there are none."""
    from detr_onnx.engines.onnxruntime import import_onnxruntime

    try:
        return ", ".join(import_onnxruntime().get_available_providers())
    except EngineError as error:
        return f"none ({error.found})"


def _name_and_size(entry: Entry) -> str:
    return f"{entry.name}  {entry.bytes / 1e6:.1f} MB"
