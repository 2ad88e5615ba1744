"""The OpenVINO engine, fastest on x86 processors: graph files in float32, or in bfloat16 where that costs little."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines import Engine
from detr_onnx.engines.bfloat16 import (
    BF16_BACKBONE,
    BF16_MIXED,
    REGIONS,
    can_be_lowered,
    is_lowered,
    lower,
    raise_to_float32,
)
from detr_onnx.engines.deadline import FIRST_RUN_S, LOAD_S, first_within, within
from detr_onnx.engines.graph import (
    PIXELS,
    PREPROCESSING,
    Feeds,
    Port,
    Run,
    check_sizes,
    graph_engine,
    not_text,
    read_preprocessing,
)
from detr_onnx.engines.graph_file import check_graph_file
from detr_onnx.errors import EngineError, ModelFileError

HINTS = {"fp32": "f32", "bf16": "bf16", BF16_MIXED: "f32", BF16_BACKBONE: "f32"}
"""OpenVINO's inference precision for each of our precisions; nodes with explicit types keep theirs."""

NARROW = 128
"""Pixels. Inputs narrower or lower than this are computed in float32 in every precision: in bfloat16 OpenVINO 2026.4
returns wrong results, different on each run, for feature maps one cell wide and for some of two. The limit is four
cells of 32 pixels. Resized to 800, only images ten times as long as wide are that narrow."""

SHAPES_KEPT = 16  # in OpenVINO's cache of compiled shapes and in oneDNN's; their defaults of 5000 and 1024 fill memory
COMPUTED_IN = "detr_onnx.computed_in"  # metadata of what `convert_to_ir` stores
TELEMETRY = "openvino_telemetry"
HEADS = ("class_labels_classifier", "bbox_predictor")  # prefixes of the names of their weights
ELEMENT_TYPES = {"i64": "int64", "i32": "int32", "boolean": "bool", "f32": "float32", "f16": "float16"}


def openvino_engine(path: Path, precision: str | None = None, threads: int | None = None) -> Engine:
    """Runs an .onnx file, or an .xml file of OpenVINO's own, on the CPU.

    Args:
        path: of the file.
        precision: one of `HINTS`. None is the fastest that keeps to the published agreement with float32:
            "bf16-mixed" for our graphs on processors with bfloat16, else "fp32".
        threads: used by one inference; None is one per physical core.

    Raises:
        EngineError: OpenVINO is not installed, or the processor does not have the precision.
        ModelFileError: the file is missing, damaged or not a DETR, or has no nodes with the names of our graphs.
    """
    openvino = import_openvino()
    check_graph_file(path)
    core, has_bf16 = openvino.Core(), has_bfloat16()
    if precision not in (None, "fp32") and not has_bf16:
        raise EngineError(
            f"this processor does not compute in {precision}", found="no bfloat16", remedy="use precision fp32"
        )
    try:
        model = within(LOAD_S, path, "load", lambda: core.read_model(path))
        metadata, inputs, outputs = _metadata(model), _ports(model.inputs), _ports(model.outputs)
        check_sizes(path, [*inputs, *outputs])  # before it allocates them
        precision = precision or _best(model, has_bf16)
        _set_precision(model, precision, path)
        run = _compiled(path, core, model, _options(HINTS[precision], threads))
    except UnicodeDecodeError as error:
        raise not_text(path, error) from error
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    if precision != "fp32":
        run = _narrow_in_fp32(run, lambda: _fp32_run(path, threads))
    title = f"openvino {openvino_release()}, CPU, {precision}"
    return graph_engine(path, title, inputs, outputs, metadata, run)


def _narrow_in_fp32(run: Run, make_fp32: Callable[[], Run]) -> Run:
    """An inference that computes narrow inputs (`NARROW`) in float32, with a graph loaded when the first one comes."""
    fp32 = cache(make_fp32)
    lock = threading.Lock()

    def run_either(feeds: Feeds, names: Sequence[str]) -> tuple[NDArray[np.generic], ...]:
        if min(feeds[PIXELS].shape[2:]) >= NARROW:
            return run(feeds, names)
        with lock:
            fp32_run = fp32()
        return fp32_run(feeds, names)

    return run_either


def _fp32_run(path: Path, threads: int | None) -> Run:
    """The inference of a file in float32; what is stored in bfloat16 is converted back."""
    core = import_openvino().Core()
    try:
        model = core.read_model(path)
        if is_lowered(model):
            raise_to_float32(model)
        return _compiled(path, core, model, _options("f32", threads))
    except RuntimeError as error:
        raise _unreadable(path, error) from error


def _compiled(path: Path, core: Any, model: Any, options: dict[str, Any]) -> Run:
    """The inference of a model."""
    compiled = within(LOAD_S, path, "load", lambda: core.compile_model(model, "CPU", options))
    return first_within(FIRST_RUN_S, path, _runner(path, compiled))


def _unreadable(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(f"OpenVINO cannot load {path}", found=_reason(error), remedy="export or fetch the file again")


def _best(model: Any, has_bf16: bool) -> str:
    """The precision that a model is stored in, or the fastest that keeps to the published agreement."""
    stored = _stored_in(model)
    return stored or (BF16_MIXED if has_bf16 and can_be_lowered(model) and not _is_in_int8(model) else "fp32")


def _stored_in(model: Any) -> str | None:
    """The precision that `lower` has given a model before it was stored."""
    stored = _metadata(model).get(COMPUTED_IN)
    return stored if stored and is_lowered(model) else None


def _is_in_int8(model: Any) -> bool:
    return _metadata(model).get("detr_onnx.precision") == "int8"


def _set_precision(model: Any, precision: str, path: Path) -> None:
    """Converts parts of the model to bfloat16 if the precision asks for it.

    Raises:
        ModelFileError: the model is stored in another precision, or its nodes do not have the names of our graphs.
    """
    stored = _stored_in(model)
    if stored not in (None, precision):
        remedy = f"use precision {stored}, or the checkpoint"
        raise ModelFileError(f"{path} is not in {precision}", found=f"parts in bfloat16, as of {stored}", remedy=remedy)
    if stored or precision not in REGIONS:
        return
    if precision == BF16_BACKBONE and _is_in_int8(model):
        remedy = f"use precision {BF16_MIXED}, fp32 or bf16, which apply to the rest"
        raise ModelFileError(f"the backbone of {path} cannot be converted to bf16", found="int8", remedy=remedy)
    if not can_be_lowered(model):
        raise ModelFileError(
            f"{path} cannot be computed in {precision}",
            found="no nodes in float32 with the names of our graphs",
            remedy="use precision fp32 or bf16, or a file that this version exports",
        )
    preprocessing = read_preprocessing(path, _metadata(model).get(PREPROCESSING, "{}"))
    lower(model, REGIONS[precision], preprocessing, stages_in_int8=_is_in_int8(model))
    model.set_rt_info(precision, ["framework", COMPUTED_IN])


def _options(hint: str, threads: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    options["CPU_RUNTIME_CACHE_CAPACITY"] = SHAPES_KEPT
    if threads is not None:  # pinned threads of two processes would share the first cores and leave the others idle
        options |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    return options


def import_openvino() -> Any:
    """The package `openvino`.

    Raises:
        EngineError: it is not installed, or damaged.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(SHAPES_KEPT))
    try:
        with _without_telemetry():
            import openvino
    except ImportError as error:
        raise EngineError(
            "engine openvino needs the package openvino",
            found=str(error),
            remedy="run pip install 'detr-onnx[openvino]', or use another engine",
        ) from error
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


def convert_to_ir(precision: str, graph: Path) -> None:
    """Replaces an .onnx file of ours, with external weights, by OpenVINO's own format.

    Weights are stored in float16, or in bfloat16 for a bfloat16 backbone, until they are laid out for computing. Those
    of an .onnx file would be converted to float32 first, which takes 120 MB more for a DETR-R50. The weights of the
    heads stay float32: in a graph all in bfloat16 their results would be rounded, too.
    """
    openvino = import_openvino()
    with tempfile.TemporaryDirectory(dir=graph.parent) as place:
        whole = Path(place, "whole.xml")
        _write_whole(graph, precision, whole)
        openvino.save_model(openvino.Core().read_model(whole), graph.with_suffix(".xml"), compress_to_fp16=True)
    graph.with_name(f"{graph.name}.data").unlink()
    graph.unlink()


def _write_whole(graph: Path, precision: str, whole: Path) -> None:
    """The graph in OpenVINO's format, as it is. At its end the model is gone: Windows removes no file that one maps."""
    openvino = import_openvino()
    model = openvino.Core().read_model(graph)
    _set_precision(model, precision, graph)
    for node in model.get_ops():
        if node.get_friendly_name().startswith(HEADS):
            node.get_rt_info()["precise_0"] = ""  # becomes an attribute of OpenVINO's when written and read again
    openvino.serialize(model, whole, whole.with_suffix(".bin"))


def _runner(path: Path, compiled: Any) -> Run:
    """One inference of the graph. A request serves one thread at a time."""
    request, lock = compiled.create_infer_request(), threading.Lock()

    def run(feeds: Feeds, names: Sequence[str]) -> tuple[NDArray[np.generic], ...]:
        with lock:
            try:
                request.infer(dict(feeds), share_inputs=True)
            except RuntimeError as error:
                raise EngineError(f"OpenVINO failed on {path}", found=_reason(error)) from error
            return tuple(request.get_tensor(name).data.copy() for name in names)

    return run


def _ports(values: Sequence[Any]) -> list[Port]:
    return [_port(value) for value in values]


def _port(value: Any) -> Port:
    axes = tuple(axis.get_length() if axis.is_static else None for axis in value.get_partial_shape())
    kind = value.get_element_type().get_type_name()
    return Port(value.get_any_name(), ELEMENT_TYPES.get(kind, kind), axes)


def _metadata(model: Any) -> dict[str, str]:
    """The metadata of the ONNX file, which OpenVINO keeps as runtime information."""
    try:
        return {name: str(value) for name, value in model.get_rt_info("framework").value.items()}
    except RuntimeError:  # the file has none
        return {}


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's message, whose first lines name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
