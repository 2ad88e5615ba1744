"""From a checkpoint to an .onnx file that needs nothing beside it.

The graph is what `network/detr.py` says to `network/onnx_ops.py`; here it gets its inputs, outputs, metadata and bytes.
Names of inputs and outputs are those of Hugging Face's own export, so either side can run the other's files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx import __version__
from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.defaults import EXPORT_PRECISIONS
from detr_onnx.engines.bfloat16 import PROJECTION, STEM
from detr_onnx.errors import EngineError, OutputError, UsageError
from detr_onnx.exporter.end_to_end import IMAGE, OUTPUTS, THRESHOLD, record_end_to_end
from detr_onnx.exporter.external_data import layout, pointer, write_data
from detr_onnx.image.preprocess import Preprocessing
from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import detr, stage_names
from detr_onnx.network.onnx_ops import INT64, MICROSOFT, OPSET, SINGLE, Graph, Node, OnnxOps, Symbol
from detr_onnx.network.quantized import ConvQuantParams
from detr_onnx.network.resnet import fold_batch_norm

Array = NDArray[Any]

IR_VERSION = 8  # of opset 17's time: runtimes from 2022 on read it


@dataclass(frozen=True)
class ExportOptions:
    """Which of the graphs of a model to write.

    Attributes:
        shape_hw: the one size of images the file is for, or None for any. With a size, positions are constants.
        mask: whether the graph takes a `pixel_mask`, and so batches of images of different sizes.
        batch: the one number of images at a time, or None for any.
        precision: one of `defaults.EXPORT_PRECISIONS`; whatever it is, inputs and outputs are float32.
        fused_attention: attention as one node, `com.microsoft.MultiHeadAttention`, an operator of ONNX Runtime's own.
        stages: names of stages to give out beside logits and boxes.
        end_to_end: from an image's bytes to detections (`end_to_end.py`); for one image of any size.
        grids: of the convolutions that int8 computes in 8 bits, by place; what `calibrate` finds.
        fp16_feed_forward: int8 keeps the feed-forward layers' weights in float16.
        told: what else the metadata says.
    """

    shape_hw: tuple[int, int] | None = None
    mask: bool = True
    batch: int | None = None
    precision: str = "fp32"
    fused_attention: bool = False
    stages: tuple[str, ...] = ()
    end_to_end: bool = False
    quant_params: Mapping[str, ConvQuantParams] = field(default_factory=dict)
    fp16_feed_forward: bool = False
    told: Mapping[str, str] = field(default_factory=dict)


def write_onnx(
    path: Path,
    checkpoint: Checkpoint,
    preprocessing: Preprocessing,
    form: ExportOptions,
    *,
    external_data: bool = False,
) -> None:
    """Writes the model; the same checkpoint and form give the same bytes.

    Args:
        path: the .onnx file; it is replaced only when everything has been written.
        checkpoint: the weights and their config.
        preprocessing: how images are made ready, for the metadata.
        form: which graph.
        external_data: weights in `{path}.data` beside the file, which starts faster and takes half the memory.

    Raises:
        EngineError: when the package `onnx` is not installed.
        OutputError: when the file cannot be written.
    """
    import_onnx()  # or refuse before the work
    if path.is_dir():
        raise OutputError(f"{path} cannot be written", found="a directory", remedy="choose another file")
    write_graph(path, _recorded(checkpoint, preprocessing, form), checkpoint, preprocessing, form, external_data)


def write_graph(
    path: Path,
    graph: Graph,
    checkpoint: Checkpoint,
    preprocessing: Preprocessing,
    form: ExportOptions,
    external_data: bool,
) -> None:
    """Writes a graph that has been recorded in that form; see `write_onnx`."""
    onnx = import_onnx()
    data = path.with_name(f"{path.name}.data") if external_data else None
    model = _proto(onnx, graph, checkpoint, preprocessing, form, data)
    try:
        with _replacing(path) as part:
            part.write_bytes(model.SerializeToString(deterministic=True))
            if data:  # in place before the graph that points into it
                with _replacing(data) as data_part:
                    write_data(data_part, graph)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written", found=reason, remedy="choose another file") from error


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which it replaces when all went well."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def import_onnx() -> Any:
    """The package `onnx`, which only writing graphs needs.

    Raises:
        EngineError: when it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise EngineError(
            "writing an ONNX graph needs the package onnx",
            found="no such package",
            remedy="run pip install 'detr-onnx[export]', or use engine numpy",
        ) from error
    return onnx


def onnx_model(checkpoint: Checkpoint, preprocessing: Preprocessing, form: ExportOptions) -> Any:
    """The `onnx.ModelProto`, weights and all."""
    graph = _recorded(checkpoint, preprocessing, form)
    return _proto(import_onnx(), graph, checkpoint, preprocessing, form, None)


def _proto(
    onnx: Any,
    graph: Graph,
    checkpoint: Checkpoint,
    preprocessing: Preprocessing,
    form: ExportOptions,
    data: Path | None,
) -> Any:
    """The `onnx.ModelProto`; with `data`, its larger constants only point into that file."""
    outside = {name: offset for name, _, offset in layout(graph)} if data else {}
    tensors = [
        pointer(onnx, name, array, data.name, outside[name])
        if data and name in outside
        else onnx.numpy_helper.from_array(array, name)
        for name, array in graph.constants.items()
    ]
    nodes = [
        onnx.helper.make_node(n.op_type, n.inputs, n.outputs(), n.name, domain=n.domain, **_attributes(onnx, n))
        for n in graph.nodes
    ]
    inputs, outputs = _inputs(onnx, form), _outputs(onnx, checkpoint.config, form, graph)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "detr", inputs, outputs, tensors),
        opset_imports=[onnx.helper.make_opsetid(*domain) for domain in _domains(form)],
        ir_version=IR_VERSION,
        producer_name="detr-onnx",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(model, {**metadata(checkpoint, preprocessing, form.precision), **form.told})
    return model


def _domains(form: ExportOptions) -> list[tuple[str, int]]:
    """The sets of operators that the graph uses, with their versions."""
    return [("", OPSET), (MICROSOFT, 1)] if form.fused_attention else [("", OPSET)]


def _recorded(checkpoint: Checkpoint, preprocessing: Preprocessing, form: ExportOptions) -> Graph:
    """The graph of a checkpoint in that form."""
    _check_precision(form.precision)
    parameters = fold_batch_norm(checkpoint.tensors)
    if form.end_to_end:
        kept = form.precision, form.quant_params, form.fp16_feed_forward
        return record_end_to_end(checkpoint.config, parameters, preprocessing, *kept, form.fused_attention)
    graph = record(checkpoint.config, parameters, form)
    name_backbone_ends(graph)
    return graph


def _check_precision(precision: str) -> None:
    if precision not in EXPORT_PRECISIONS:
        raise UsageError("no such precision", found=repr(precision), expected=f"one of {', '.join(EXPORT_PRECISIONS)}")


def record(config: DetrConfig, parameters: Mapping[str, Array], form: ExportOptions) -> Graph:
    """The recorded graph of a form, its outputs under their names.

    Raises:
        UsageError: when a stage is asked for that the model does not have.
    """
    known = stage_names(config)
    unknown = [name for name in form.stages if name not in known]
    if unknown:
        raise UsageError("no such stage", found=", ".join(unknown), expected=f"some of {', '.join(known)}")
    graph = Graph()
    cells_hw = _cells_hw(config, form.shape_hw)
    kept = form.precision, form.quant_params, form.fp16_feed_forward
    ops = OnnxOps(parameters, graph, cells_hw, form.shape_hw, form.fused_attention, *kept)
    detr(ops, config, Symbol("pixel_values"), Symbol("pixel_mask", INT64) if form.mask else None)
    for name in _output_names(form):
        graph.add_output(graph.stages["boxes" if name == "pred_boxes" else name], name)
    return graph


def name_backbone_ends(graph: Graph) -> None:
    """Calls the float32 maps behind the stem and behind the projection by these names (`engines/bfloat16.py`)."""
    for name in (STEM, PROJECTION):
        value = graph.stages[name]
        if isinstance(value, Symbol) and value.dtype == SINGLE:
            graph.add_output(value, name)


def _cells_hw(config: DetrConfig, shape_hw: tuple[int, int] | None) -> tuple[int, int] | None:
    """Size of the last feature map: every stride rounds up."""
    if shape_hw is None:
        return None
    return -(-shape_hw[0] // config.backbone.stride), -(-shape_hw[1] // config.backbone.stride)


def metadata(checkpoint: Checkpoint, preprocessing: Preprocessing, precision: str) -> dict[str, str]:
    """What makes a file self-describing; `Detector` reads it back."""
    return {
        "detr_onnx.config": json.dumps(checkpoint.config.to_fields(), sort_keys=True),
        "detr_onnx.labels": json.dumps(checkpoint.config.labels),  # for those who would not dig in the config
        "detr_onnx.precision": precision,
        "detr_onnx.preprocessing": json.dumps(preprocessing.to_json(), sort_keys=True),
        "detr_onnx.source_sha256": tensors_sha256(checkpoint.tensors),
        "detr_onnx.version": __version__,
    }


def tensors_sha256(tensors: Mapping[str, Array]) -> str:
    """One digest of names, shapes and values, whatever the dialect and the order of the file they came from."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.shape}".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def _attributes(onnx: Any, node: Node) -> dict[str, Any]:
    """A node's attributes as protobuf takes them: an array becomes a tensor."""
    return {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
    }


def _inputs(onnx: Any, form: ExportOptions) -> list[Any]:
    """`pixel_values` float32 and, in the form with a mask, `pixel_mask` int64 as Hugging Face's export has it.

    The mask's size has names of its own: it is scaled to the feature map, so any size does, as the 64x64 of
    transformers.js.
    """
    info = onnx.helper.make_tensor_value_info
    if form.end_to_end:
        image = info(IMAGE, onnx.TensorProto.UINT8, ["height", "width", 3])
        return [image, info(THRESHOLD, onnx.TensorProto.FLOAT, [1])]
    batch = form.batch or "batch"
    height, width = form.shape_hw or ("height", "width")
    mask_hw = form.shape_hw or ("mask_height", "mask_width")
    pixels = info("pixel_values", onnx.TensorProto.FLOAT, [batch, 3, height, width])
    return [pixels, info("pixel_mask", onnx.TensorProto.INT64, [batch, *mask_hw])] if form.mask else [pixels]


def _output_names(form: ExportOptions) -> tuple[str, ...]:
    return ("logits", "pred_boxes", *dict.fromkeys(name for name in form.stages if name not in ("logits", "boxes")))


def _outputs(onnx: Any, config: DetrConfig, form: ExportOptions, graph: Graph) -> list[Any]:
    """`logits`, `pred_boxes`, and whatever stages and samples were asked for; or what was detected."""
    info = onnx.helper.make_tensor_value_info
    if form.end_to_end:
        float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
        kinds = zip(OUTPUTS, (float32, int64, float32), ([], [], [4]), strict=True)
        return [info(name, kind, ["detections", *axes]) for name, kind, axes in kinds]
    batch = form.batch or "batch"
    shapes: dict[str, list[int | str | None]] = {
        "logits": [batch, config.queries, len(config.labels) + 1],
        "pred_boxes": [batch, config.queries, 4],
    }
    maps = ("stem", "stage", "projection")
    stages = [
        info(name, onnx.TensorProto.FLOAT, shapes.get(name, [None] * (4 if name.startswith(maps) else 3)))
        for name in _output_names(form)
    ]
    return [*stages, *(info(name, onnx.TensorProto.FLOAT, [None]) for name in graph.samples)]
