"""The OpenVINO engine, fastest on x86 processors: graph files in float32, or in bfloat16 where that costs little."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

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
from detr_onnx.engines.deadline import FIRST_RUN_S, LOAD_S, limit_first_run, run_within
from detr_onnx.engines.error_messages import openvino_reason
from detr_onnx.engines.graph_engine import (
    PIXELS,
    PREPROCESSING,
    TYPES,
    Feeds,
    Port,
    Run,
    check_sizes,
    graph_engine,
    images_in,
    not_text_error,
    read_preprocessing,
)
from detr_onnx.engines.graph_file import check_graph_file
from detr_onnx.engines.openvino_package import SHAPES_KEPT, has_bfloat16, import_openvino, openvino_release
from detr_onnx.errors import EngineError, ModelFileError, OutputError

HINTS = {"fp32": "f32", "bf16": "bf16", BF16_MIXED: "f32", BF16_BACKBONE: "f32"}
"""OpenVINO's inference precision for each of our precisions; nodes with explicit types keep theirs."""

NARROW = 128
"""Pixels. Inputs narrower or lower than this are computed in float32 in every precision: in bfloat16 OpenVINO 2026.4
returns wrong results, different on each run, for feature maps one cell wide and for some of two. The limit is four
cells of 32 pixels. Resized to 800, only images ten times as long as wide are that narrow."""

COMPUTED_IN = "detr_onnx.computed_in"  # metadata of what `convert_to_ir` stores
HEADS = ("class_labels_classifier", "bbox_predictor")  # prefixes of the names of their weights
ELEMENT_TYPES = {"i64": "int64", "i32": "int32", "boolean": "bool", "f32": "float32", "f16": "float16"}

_compiled_by: WeakKeyDictionary[Run, int] = WeakKeyDictionary()  # the process of each model in use


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
    files = check_graph_file(path)
    _check_not_forked(path)
    core, has_bf16 = openvino.Core(), has_bfloat16()
    if precision not in (None, "fp32") and not has_bf16:
        raise EngineError(
            f"this processor does not compute in {precision}", found="no bfloat16", remedy="use precision fp32"
        )
    try:
        model = run_within(LOAD_S, path, "load", lambda: _read(core, path, files))
        metadata, inputs, outputs = _metadata(model), _ports(model.inputs), _ports(model.outputs)
        check_sizes(path, [*inputs, *outputs])  # before it allocates them
        stored = _stored_in(model)
        precision = precision or stored or _best(model, has_bf16)
        _set_precision(model, precision, path, stored)
        run = _compiled(path, core, model, _options(HINTS[precision], threads))
    except UnicodeDecodeError as error:
        raise not_text_error(path, error) from error
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    if precision != "fp32":
        run = _narrow_in_fp32(run, lambda: _fp32_run(path, files, threads))
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


def _fp32_run(path: Path, files: Sequence[Path], threads: int | None) -> Run:
    """The inference of a file in float32; what is stored in bfloat16 is converted back."""
    _check_not_forked(path)
    core = import_openvino().Core()
    try:
        model = _read(core, path, files)
        if is_lowered(model):
            raise_to_float32(model)
        return _compiled(path, core, model, _options("f32", threads))
    except RuntimeError as error:
        raise _unreadable(path, error) from error


def _read(core: Any, path: Path, files: Sequence[Path]) -> Any:
    """The model in a file, with its weights in `files`.

    OpenVINO does not follow links to weights elsewhere, as in the cache of the hub.
    """
    if all(file.resolve().is_relative_to(path.parent.resolve()) for file in files):
        return core.read_model(path)
    import tempfile  # 0.8 MB with `random`, which opening a model does not need

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:  # Windows removes no file that is mapped
        try:
            for file in (path, *files):
                copy = Path(place) / file.relative_to(path.parent)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        except OSError as error:
            remedy = "use engine onnxruntime, or replace the links by the files"
            raise EngineError(f"OpenVINO needs a copy of {path}", found=str(error), remedy=remedy) from error
        return core.read_model(Path(place, path.name))


def _compiled(path: Path, core: Any, model: Any, options: dict[str, Any]) -> Run:
    """The inference of a model."""
    compiled = run_within(LOAD_S, path, "load", lambda: core.compile_model(model, "CPU", options))
    run = _runner(path, compiled)
    _compiled_by[run] = os.getpid()
    return limit_first_run(FIRST_RUN_S, path, run, images_in)


def _check_not_forked(path: Path) -> None:
    """Raises EngineError if this process is a fork of one with a model in OpenVINO; it would hang, or abort."""
    if any(process != os.getpid() for process in _compiled_by.values()):
        raise _forked(f"OpenVINO cannot open {path}")


def _forked(what: str) -> EngineError:
    found = "a process that was forked while a model was open in OpenVINO"
    remedy = "start processes with the method spawn, open models only after the fork, or use engine onnxruntime"
    return EngineError(what, found=found, remedy=remedy)


def _unreadable(path: Path, error: Exception) -> ModelFileError:
    another = ", or use engine onnxruntime" if path.suffix.lower() == ".onnx" else ""
    remedy = f"export or fetch the file again{another}"
    return ModelFileError(f"OpenVINO cannot load {path}", found=openvino_reason(error), remedy=remedy)


def _best(model: Any, has_bf16: bool) -> str:
    """The fastest precision that keeps to the published agreement."""
    return BF16_MIXED if has_bf16 and not _is_in_int8(model) and can_be_lowered(model) else "fp32"


def _stored_in(model: Any) -> str | None:
    """The precision that `lower` has given a model before it was stored."""
    stored = _metadata(model).get(COMPUTED_IN)
    return stored if stored in HINTS and is_lowered(model) else None


def _is_in_int8(model: Any) -> bool:
    return _metadata(model).get("detr_onnx.precision") == "int8"


def _set_precision(model: Any, precision: str, path: Path, stored: str | None = None) -> None:
    """Converts parts of the model to bfloat16 if the precision asks for it; `stored` is the one it has already.

    Raises:
        ModelFileError: the model is stored in another precision, or its nodes do not have the names of our graphs.
    """
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


def convert_to_ir(precision: str, graph: Path) -> None:
    """Replaces an .onnx file of ours, with external weights, by OpenVINO's own format.

    Weights are stored in float16, or in bfloat16 for a bfloat16 backbone, until they are laid out for computing. Those
    of an .onnx file would be converted to float32 first, which takes 120 MB more for a DETR-R50. The weights of the
    heads stay float32: in a graph all in bfloat16 their results would be rounded, too.

    Raises:
        OutputError: the disk is full.
    """
    import tempfile

    openvino = import_openvino()
    with tempfile.TemporaryDirectory(dir=graph.parent) as place:
        whole = Path(place, "whole.xml")
        try:
            _write_whole(graph, precision, whole)
            openvino.save_model(openvino.Core().read_model(whole), graph.with_suffix(".xml"), compress_to_fp16=True)
        except RuntimeError as error:  # not the graph's fault: it is ours
            raise OutputError(f"{graph} cannot be converted", found=openvino_reason(error)) from error
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
    request, lock, process = compiled.create_infer_request(), threading.Lock(), os.getpid()

    def run(feeds: Feeds, names: Sequence[str]) -> tuple[NDArray[np.generic], ...]:
        if os.getpid() != process:  # its threads are not there, and a lock of theirs may be held for ever
            raise _forked(f"OpenVINO cannot run {path}")
        with lock:
            try:
                request.infer(dict(feeds), share_inputs=True)
            except RuntimeError as error:
                raise EngineError(f"OpenVINO failed on {path}", found=openvino_reason(error)) from error
            return tuple(request.get_tensor(name).data.copy() for name in names)

    return run


def _ports(values: Sequence[Any]) -> list[Port]:
    return [_port(value) for value in values]


def _port(value: Any) -> Port:
    shape, kind = value.get_partial_shape(), value.get_element_type().get_type_name()
    axes = () if shape.rank.is_dynamic else tuple(axis.get_length() if axis.is_static else None for axis in shape)
    return Port(_name(value), ELEMENT_TYPES.get(kind, kind), axes)


def _name(value: Any) -> str:
    """The name of an input or output. It may have several, of which one that a DETR has counts, or none."""
    names = sorted(value.get_names())
    return next((name for name in names if name in TYPES), names[0] if names else "")


def _metadata(model: Any) -> dict[str, str]:
    """The metadata of the ONNX file, which OpenVINO keeps as runtime information."""
    try:
        entries = model.get_rt_info("framework").value
    except RuntimeError:  # the file has none
        return {}
    return {name: str(value) for name, value in entries.items()} if isinstance(entries, dict) else {}
