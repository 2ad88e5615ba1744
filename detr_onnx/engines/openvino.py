"""The engine for x86 processors: OpenVINO runs the same .onnx files, in bfloat16 where the processor has it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines import Engine
from detr_onnx.engines.graph import BOXES, LOGITS, Feeds, Port, Run, check_is_file, graph_engine
from detr_onnx.errors import EngineError, ModelFileError

HINTS = {"fp32": "f32", "bf16": "bf16"}
PRECISION_OF = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
ELEMENT_TYPES = {"i64": "int64", "i32": "int32", "boolean": "bool", "f32": "float32", "f16": "float16"}


def openvino_engine(path: Path, precision: str | None = None, threads: int | None = None) -> Engine:
    """The .onnx file, run by OpenVINO on the CPU.

    Args:
        path: the model.
        precision: "fp32" or "bf16"; None is what OpenVINO does best here: bf16 on processors that have it, else fp32.
        threads: of one pass; None is one for each physical core.

    Raises:
        EngineError: when OpenVINO is not installed, or the processor does not have the precision.
        ModelFileError: when the file is missing, damaged, or no DETR.
    """
    openvino = import_openvino()
    check_is_file(path)
    core = openvino.Core()
    if precision is not None:
        _check_precision(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"), precision)
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    options |= {"INFERENCE_NUM_THREADS": threads} if threads is not None else {}
    options |= {"INFERENCE_PRECISION_HINT": HINTS[precision]} if precision is not None else {}
    try:
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise ModelFileError(
            f"OpenVINO cannot load {path}", found=_reason(error), remedy="export or fetch the file again"
        ) from error
    metadata = _metadata(model)
    kind = PRECISION_OF.get(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(), "fp32")
    title = f"openvino {openvino.__version__.split('-')[0]}, CPU, {kind}"
    return graph_engine(
        path,
        title,
        [_port(p) for p in model.inputs],
        [_port(p) for p in model.outputs],
        metadata,
        _runner(path, compiled),
    )


def import_openvino() -> Any:
    """The package `openvino`.

    Raises:
        EngineError: when it is not installed, or not sound.
    """
    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            "engine openvino needs the package openvino",
            found=str(error),
            remedy="run pip install 'detr-onnx[openvino]', or use another engine",
        ) from error
    return openvino


def _check_precision(capabilities: list[str], precision: str) -> None:
    """Raises EngineError for a precision that this processor would only imitate."""
    if precision.upper() not in capabilities:
        raise EngineError(
            f"OpenVINO has no {precision} on this processor", found=", ".join(capabilities), remedy="use precision fp32"
        )


def _runner(path: Path, compiled: Any) -> Run:
    """One pass through the graph; a request is not for two threads at once."""
    request, turn = compiled.create_infer_request(), threading.Lock()

    def run(feeds: Feeds) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        with turn:
            try:
                request.infer(dict(feeds), share_inputs=True)
            except RuntimeError as error:
                raise EngineError(f"OpenVINO failed on {path}", found=_reason(error)) from error
            return request.get_tensor(LOGITS).data.copy(), request.get_tensor(BOXES).data.copy()

    return run


def _port(value: Any) -> Port:
    axes = tuple(axis.get_length() if axis.is_static else None for axis in value.get_partial_shape())
    kind = value.get_element_type().get_type_name()
    return Port(value.get_any_name(), ELEMENT_TYPES.get(kind, kind), axes)


def _metadata(model: Any) -> dict[str, str]:
    """The metadata of the ONNX file, which OpenVINO keeps as run-time information."""
    try:
        return {name: str(value) for name, value in model.get_rt_info("framework").value.items()}
    except RuntimeError:  # a file without any
        return {}


def _reason(error: Exception) -> str:
    """The last sentence of OpenVINO's own words, which begin with its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
