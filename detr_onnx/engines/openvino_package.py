"""The package `openvino`: imported without its telemetry, its version, and what the processor has for it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from detr_onnx.errors import EngineError

LOWEST_YEAR = 2025  # the first number of the oldest release that is tested
SHAPES_KEPT = 16  # in OpenVINO's cache of compiled shapes and in oneDNN's; their defaults of 5000 and 1024 fill memory
TELEMETRY = "openvino_telemetry"
OR_ANOTHER = ", or use another engine"


def import_openvino() -> Any:
    """The package `openvino`.

    Raises:
        EngineError: it is not installed, damaged, or too old.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(SHAPES_KEPT))
    try:
        with _without_telemetry():
            import openvino
    except ImportError as error:
        remedy = f"run pip install 'detr-onnx[openvino]'{OR_ANOTHER}"
        raise EngineError("engine openvino needs the package openvino", found=str(error), remedy=remedy) from error
    version = str(getattr(openvino, "__version__", "no version"))
    year = version.partition(".")[0]
    if not year.isdigit() or int(year) < LOWEST_YEAR:
        expected, remedy = f"{LOWEST_YEAR}.0 or newer", f"run pip install -U openvino{OR_ANOTHER}"
        raise EngineError("the package openvino is too old", found=version[:60], expected=expected, remedy=remedy)
    return openvino


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Makes `import openvino` work without openvino_telemetry, which reports every import over the network."""
    absent = object()
    before = sys.modules.get(TELEMETRY, absent)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # importing a module that is None fails
    try:
        yield
    finally:
        if before is absent:
            del sys.modules[TELEMETRY]
        else:
            sys.modules[TELEMETRY] = before  # type: ignore[assignment]


def openvino_release() -> str:
    """OpenVINO's version without the build number."""
    release: str = import_openvino().__version__.split("-")[0]
    return release


def has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
