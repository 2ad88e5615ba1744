"""The engine for x86 processors: OpenVINO runs the same .onnx files, in bfloat16 where that costs little.

bfloat16 has 8 bits: what is rounded to it early, or decides between two answers, comes out otherwise. So where the
processor has it, the convolutions behind the stem are computed in it, which is four fifths of the work, and stem,
positions, transformer and heads in float32. OpenVINO has one precision for a whole graph: ours is cut into three.

    pixels ── stem, fp32 ── backbone, bf16 ── transformer and heads, fp32 ── logits, boxes
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines import Engine
from detr_onnx.engines.graph import BOXES, LOGITS, MASK, PIXELS, Feeds, Port, Run, check_is_file, graph_engine
from detr_onnx.errors import EngineError, ModelFileError

BF16_BACKBONE, STEM = "bf16-backbone", "stem"
HINTS = {"fp32": ("f32",), "bf16": ("bf16",), BF16_BACKBONE: ("f32", "bf16", "f32")}
"""OpenVINO's name of the precision of each part, in the order of the walk."""

SHAPES_KEPT = 16  # in OpenVINO's store of what it has made for a shape, and in oneDNN's: 5000 and 1024 fill memory
HEADS = ("class_labels_classifier", "bbox_predictor")  # how the names of their weights begin
ELEMENT_TYPES = {"i64": "int64", "i32": "int32", "boolean": "bool", "f32": "float32", "f16": "float16"}


def openvino_engine(path: Path, precision: str | None = None, threads: int | None = None) -> Engine:
    """The .onnx file, or OpenVINO's own .xml, run by OpenVINO on the CPU.

    Args:
        path: the model.
        precision: one of `HINTS`. None is the fastest here that keeps to the published agreement with float32:
            "bf16-backbone" for graphs of ours on processors that have bfloat16, else "fp32".
        threads: of one pass; None is one for each physical core.

    Raises:
        EngineError: when OpenVINO is not installed, or the processor does not have the precision.
        ModelFileError: when the file is missing, damaged, no DETR, or does not say where its backbone begins and ends.
    """
    openvino = import_openvino()
    check_is_file(path)
    core, has_bf16 = openvino.Core(), has_bfloat16()
    if precision not in (None, "fp32") and not has_bf16:
        raise EngineError(f"this processor has no {precision}", found="no bfloat16", remedy="use precision fp32")
    try:
        model = core.read_model(path)
        metadata, inputs, outputs = _metadata(model), _ports(model.inputs), _ports(model.outputs)
        ends = backbone_ends(model)
        in_float = metadata.get("detr_onnx.precision") != "int8"  # the backbone; 8 bits are faster and need no cut
        precision = precision or (BF16_BACKBONE if has_bf16 and ends and in_float else "fp32")
        parts = cut(model, _known(ends, path)) if precision == BF16_BACKBONE else [model]
        compiled = [
            core.compile_model(part, "CPU", _options(hint, threads))
            for part, hint in zip(parts, HINTS[precision], strict=True)
        ]
    except RuntimeError as error:
        raise ModelFileError(
            f"OpenVINO cannot load {path}", found=_reason(error), remedy="export or fetch the file again"
        ) from error
    title = f"openvino {openvino_release()}, CPU, {precision}"
    return graph_engine(path, title, inputs, outputs, metadata, _runner(path, compiled))


def _options(hint: str, threads: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    options["CPU_RUNTIME_CACHE_CAPACITY"] = SHAPES_KEPT
    return options | ({"INFERENCE_NUM_THREADS": threads} if threads is not None else {})


def import_openvino() -> Any:
    """The package `openvino`.

    Raises:
        EngineError: when it is not installed, or not sound.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(SHAPES_KEPT))
    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            "engine openvino needs the package openvino",
            found=str(error),
            remedy="run pip install 'detr-onnx[openvino]', or use another engine",
        ) from error
    return openvino


def openvino_release() -> str:
    """OpenVINO's version, without that of its build."""
    release: str = import_openvino().__version__.split("-")[0]
    return release


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16, and does not only imitate it."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def backbone_ends(model: Any) -> list[Any]:
    """The tensors behind the stem and behind the last stage of an `openvino.Model`; none where they have no names."""
    tensors = {name: output for node in model.get_ops() for output in node.outputs() for name in output.get_names()}
    stages = sorted(name for name in tensors if re.fullmatch(r"stage\d", name))
    return [tensors[STEM], tensors[stages[-1]]] if STEM in tensors and stages else []


def _known(ends: list[Any], path: Path) -> list[Any]:
    if not ends:
        raise ModelFileError(
            f"{path} does not say where its backbone begins and ends",
            found=f"no tensors called {STEM} and stage4",
            remedy="use precision fp32 or bf16, or a file that this version exports",
        )
    return ends


def cut(model: Any, tensors: Sequence[Any]) -> list[Any]:
    """The model as one more model than tensors: each gives out what the next takes in; they share their weights."""
    from openvino import Model, opset13

    first = [p for p in model.get_parameters() if PIXELS in p.output(0).get_names()]
    rest = [p for p in model.get_parameters() if PIXELS not in p.output(0).get_names()]
    parts = []
    for tensor in tensors:
        readers = list(tensor.get_target_inputs())
        parts.append(Model([opset13.result(tensor)], first, tensor.get_any_name()))
        entrance = opset13.parameter(tensor.get_partial_shape(), tensor.get_element_type())
        entrance.output(0).set_names({tensor.get_any_name()})
        for reader in readers:
            reader.replace_source_output(entrance.output(0))
        first = [entrance]
    return [*parts, Model(model.get_results(), [*first, *rest], "transformer")]


def halve(graph: Path) -> None:
    """Puts OpenVINO's own format in the place of an .onnx file of ours with its weights outside.

    It keeps weights as float16 until they are laid out for computing; those of an .onnx file it would unfold to float32
    first, which takes 120 MB more for a DETR-R50. Not the heads': in bfloat16 their answers would be rounded, too.
    """
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(graph)
    for node in model.get_ops():
        if node.get_friendly_name().startswith(HEADS):
            node.get_rt_info()["precise_0"] = ""  # becomes OpenVINO's attribute when it is written and read
    with tempfile.TemporaryDirectory(dir=graph.parent) as place:
        whole = Path(place, "whole.xml")
        openvino.serialize(model, whole, whole.with_suffix(".bin"))
        openvino.save_model(core.read_model(whole), graph.with_suffix(".xml"), compress_to_fp16=True)
    graph.with_name(f"{graph.name}.data").unlink()
    graph.unlink()


def _runner(path: Path, compiled: Sequence[Any]) -> Run:
    """One pass through the parts, one after the other; a request is not for two threads at once."""
    *before, last = [(part.create_infer_request(), _entrance(part)) for part in compiled]
    turn = threading.Lock()

    def run(feeds: Feeds) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        with turn:
            try:
                value = feeds[PIXELS]
                for request, entrance in before:
                    request.infer({entrance: value}, share_inputs=True)
                    value = request.get_output_tensor(0).data
                request, entrance = last
                others = {name: feed for name, feed in feeds.items() if name != PIXELS}
                request.infer({entrance: value, **others}, share_inputs=True)
            except RuntimeError as error:
                raise EngineError(f"OpenVINO failed on {path}", found=_reason(error)) from error
            return request.get_tensor(LOGITS).data.copy(), request.get_tensor(BOXES).data.copy()

    return run


def _entrance(part: Any) -> str:
    """The name of the input that is no mask."""
    names: list[str] = [port.get_any_name() for port in part.inputs]
    return next(name for name in names if name != MASK)


def _ports(values: Sequence[Any]) -> list[Port]:
    return [_port(value) for value in values]


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
