"""From a checkpoint to an .onnx file that describes itself.

`network/detr.py` records the graph through `network/onnx_ops.py`; here it gets its inputs, outputs and metadata, and is
written. Inputs and outputs have the names of Hugging Face's own export, so either side can run the other's files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx import __version__
from detr_onnx.atomic import atomic_files
from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.defaults import EXPORT_PRECISIONS
from detr_onnx.engines.graph_engine import MOST_VALUES
from detr_onnx.engines.graph_file import ONNX_BYTES
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.exporter.end_to_end import record_end_to_end
from detr_onnx.exporter.external_data import data_path, own_data_file, write_data
from detr_onnx.exporter.proto import import_onnx, model_proto
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import detr, detr_with_attention, panoptic_detr, parameters, stage_names
from detr_onnx.network.graph import INT64, Graph, Shape, Value
from detr_onnx.network.onnx_ops import OnnxOps
from detr_onnx.network.quantization import ConvQuantParams
from detr_onnx.network.resnet import stages
from detr_onnx.paths import is_directory
from detr_onnx.text import reason_of

Array = NDArray[Any]

FEATURE_MAPS = ("stem", "stage", "adapter", "projection")  # how the names of stages with four axes begin

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportOptions:
    """Which graph of a model to write.

    Attributes:
        shape_hw: the only size of images the graph takes, or None for any. With a size, positions are constants.
        mask: whether the graph takes a `pixel_mask`, and so batches of images of different sizes.
        batch: the only number of images at a time, or None for any.
        precision: one of `defaults.EXPORT_PRECISIONS`; inputs and outputs are float32 in each.
        fused_attention: attention as one node, `com.microsoft.MultiHeadAttention`, which only ONNX Runtime has.
        stages: names of stages that are outputs too, beside logits and boxes.
        end_to_end: from an image's pixels to detections (`end_to_end.py`); for one image of any size.
        attention: with attention maps (`network/attention.py`) in place of masks.
        quant_params: of the convolutions that int8 computes in 8 bits, by path, as `calibrate` finds them.
        fp16_feed_forward: int8 stores the feed-forward layers' weights in float16.
        metadata: entries to add to the file's metadata.

    Raises:
        UsageError: the graph would take more pixels than engines accept.
    """

    shape_hw: tuple[int, int] | None = None
    mask: bool = True
    batch: int | None = None
    precision: str = "fp32"
    fused_attention: bool = False
    stages: tuple[str, ...] = ()
    end_to_end: bool = False
    attention: bool = False
    quant_params: Mapping[str, ConvQuantParams] = field(default_factory=dict)
    fp16_feed_forward: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (height, width), batch = self.shape_hw or (1, 1), max(self.batch or 1, 1)
        if 3 * batch * height * width > MOST_VALUES:
            shape = [f"{height}x{width}"] if self.shape_hw else []
            raise UsageError(
                "the shape is too large",
                found=" in ".join([*shape, f"a batch of {batch}"] if batch > 1 else shape),
                expected=f"at most {MOST_VALUES // 3:,} pixels in all images together",
                remedy="give fewer images, or the size that they are resized to, such as 800x1066",
            )


def write_onnx(
    path: Path,
    checkpoint: Checkpoint,
    preprocessing: Preprocessing,
    options: ExportOptions,
    *,
    external_data: bool = False,
) -> None:
    """Writes the model. The same checkpoint and options give the same bytes.

    Args:
        path: the .onnx file; it is replaced only when everything has been written.
        checkpoint: the weights and their config.
        preprocessing: how images are prepared, for the metadata.
        options: which graph.
        external_data: put the weights in `{path}.data` beside the file, which loads faster and in half the memory.

    Raises:
        EngineError: when the package `onnx` is not installed.
        OutputError: when the file cannot be written.
    """
    import_onnx()  # fail before the work
    if is_directory(path):
        raise OutputError(f"{path} cannot be written", found="a directory", remedy="choose another file")
    graph = record(checkpoint, preprocessing, options)
    write_graph(path, graph, checkpoint, preprocessing, options, external_data=external_data)


def write_graph(
    path: Path,
    graph: Graph,
    checkpoint: Checkpoint,
    preprocessing: Preprocessing,
    options: ExportOptions,
    *,
    external_data: bool = False,
) -> None:
    """Writes a graph that `record` has made with these options; see `write_onnx`.

    A data file that belongs to the file that is replaced goes with it.
    """
    data = data_path(path) if external_data else None
    if not external_data:
        _check_fits_in_one_file(path, graph)
    model = _proto(graph, checkpoint, preprocessing, options, data)
    abandoned = None if external_data else own_data_file(import_onnx(), path)
    try:
        with atomic_files(path, *([data] if data else [])) as (file, *data_files):
            file.write(model.SerializeToString(deterministic=True))
            for data_file in data_files:
                write_data(data_file, graph)
    except OSError as error:
        raise OutputError(f"{path} cannot be written", found=reason_of(error), remedy="choose another file") from error
    if abandoned:
        with contextlib.suppress(OSError):
            abandoned.unlink()
            logger.info("removed %s, the weights of the file that was replaced", abandoned)


def _check_fits_in_one_file(path: Path, graph: Graph) -> None:
    """Raises OutputError if a graph is too large for a file that contains its constants."""
    size = sum(constant.array.nbytes for constant in graph.constants.values())
    if size > ONNX_BYTES:
        raise OutputError(
            f"{path} would be too large for an .onnx file",
            found=f"{size:,} bytes of weights and other constants",
            expected=f"at most {ONNX_BYTES:,}",
            remedy="add --external-data, or give a smaller --shape",
        )


def write_backbone(
    path: Path, weights: Mapping[str, Array], config: DetrConfig, quant_params: Mapping[str, ConvQuantParams]
) -> None:
    """Writes the graph from pixels to what the transformer gets, the stage "projection", and `{path}.data` beside it.

    Args:
        path: the .onnx file.
        weights: of the whole model, as `parameters` returns them.
        config: of the model.
        quant_params: of the convolutions to compute in 8 bits.
    """
    ops = OnnxOps(weights, Graph(), quant_params=quant_params)
    pixels = ops.graph.input("pixel_values", shape=["batch", 3, "height", "width"])
    *_, feature = stages(ops.at("backbone"), config.backbone, pixels)
    ops.graph.add_output(ops.conv("input_projection", feature), "projection", [None] * 4)
    data = data_path(path)
    with atomic_files(path, data) as (file, data_file):
        file.write(model_proto(ops.graph, data).SerializeToString(deterministic=True))
        write_data(data_file, ops.graph)


def onnx_model(checkpoint: Checkpoint, preprocessing: Preprocessing, options: ExportOptions) -> Any:
    """The `onnx.ModelProto`, weights included."""
    return _proto(record(checkpoint, preprocessing, options), checkpoint, preprocessing, options, None)


def _proto(
    graph: Graph, checkpoint: Checkpoint, preprocessing: Preprocessing, options: ExportOptions, data: Path | None
) -> Any:
    """The `onnx.ModelProto`; with `data`, its larger constants only point into that file."""
    model = model_proto(graph, data)
    entries = {**metadata(checkpoint, preprocessing, options.precision), **options.metadata}
    import_onnx().helper.set_model_props(model, entries)
    return model


def record(checkpoint: Checkpoint, preprocessing: Preprocessing, options: ExportOptions) -> Graph:
    """The recorded graph with its inputs and outputs.

    Raises:
        UsageError: when the model lacks a stage, or there is no such precision.
    """
    _check(checkpoint.config, options)
    ops = OnnxOps(
        parameters(checkpoint.tensors),
        Graph(),
        None if options.end_to_end else _cells_hw(checkpoint.config, options.shape_hw),
        None if options.end_to_end else options.shape_hw,
        options.fused_attention,
        options.precision,
        options.quant_params,
        options.fp16_feed_forward,
    )
    if options.end_to_end:
        record_end_to_end(ops, checkpoint.config, preprocessing)
    else:
        _record_network(ops, checkpoint.config, options)
    return ops.graph


def _check(config: DetrConfig, options: ExportOptions) -> None:
    if options.precision not in EXPORT_PRECISIONS:
        raise UsageError(
            "no such precision", found=repr(options.precision), expected=f"one of {', '.join(EXPORT_PRECISIONS)}"
        )
    if options.attention and not min(config.encoder_layers, config.decoder_layers):
        layers = f"{config.encoder_layers} encoder and {config.decoder_layers} decoder layers"
        raise UsageError("the model has no attention maps", found=layers, expected="at least one of each")
    known = stage_names(replace(config, masks=config.masks and not options.attention))
    unknown = [name for name in options.stages if name not in known]
    if unknown:
        raise UsageError("no such stage", found=", ".join(unknown), expected=f"some of {', '.join(known)}")


def _record_network(ops: OnnxOps, config: DetrConfig, options: ExportOptions) -> None:
    """Pixels and mask in; logits, boxes and stages out.

    The mask's size has names of its own: it is scaled to the feature map, so any size will do, such as the 64x64 of
    transformers.js.
    """
    graph, batch = ops.graph, options.batch or "batch"
    pixels_hw, mask_hw = options.shape_hw or ("height", "width"), options.shape_hw or ("mask_height", "mask_width")
    pixels = graph.input("pixel_values", shape=[batch, 3, *pixels_hw])
    mask = graph.input("pixel_mask", INT64, [batch, *mask_hw]) if options.mask else None
    extra: list[tuple[Value, str, Shape]] = []
    if options.attention:
        threshold, points = graph.input("threshold", shape=[1]), graph.input("points", INT64, [batch, "points"])
        logits, boxes, kept, objects, cells = detr_with_attention(ops, config, pixels, mask, threshold, points)
        layers, heads, hw = config.decoder_layers, config.decoder_heads, ("cell_rows", "cell_columns")
        of_points = batch, "points", config.encoder_layers, config.encoder_heads, *hw
        extra += [(kept, "attention_queries", ["objects", 2]), (cells, "encoder_attention", of_points)]
        extra += [(objects, "decoder_attention", ["objects", layers, heads, *hw])]
    elif config.masks:
        threshold = graph.input("threshold", shape=[1])
        logits, boxes, kept, masks = panoptic_detr(ops, config, pixels, mask, threshold)
        extra += [(kept, "mask_queries", ["masks", 2]), (masks, "pred_masks", ["masks", "mask_rows", "mask_columns"])]
    else:
        logits, boxes = detr(ops, config, pixels, mask)
    graph.add_output(logits, "logits", [batch, config.queries, len(config.labels) + 1])
    graph.add_output(boxes, "pred_boxes", [batch, config.queries, 4])
    for value, name, shape in extra:
        graph.add_output(value, name, shape)
    for name in options.stages:
        if name not in ("logits", "boxes", "masks"):
            graph.add_output(graph.stages[name], name, [None] * (4 if name.startswith(FEATURE_MAPS) else 3))


def _cells_hw(config: DetrConfig, shape_hw: tuple[int, int] | None) -> tuple[int, int] | None:
    """Size of the last feature map: every stride rounds up."""
    if shape_hw is None:
        return None
    return -(-shape_hw[0] // config.backbone.stride), -(-shape_hw[1] // config.backbone.stride)


def metadata(checkpoint: Checkpoint, preprocessing: Preprocessing, precision: str) -> dict[str, str]:
    """The entries by which a file describes itself; `Detector` reads them."""
    return {
        "detr_onnx.config": json.dumps(checkpoint.config.to_fields(), sort_keys=True),
        "detr_onnx.labels": json.dumps(checkpoint.config.labels),  # also in the config, but easier to find here
        "detr_onnx.precision": precision,
        "detr_onnx.preprocessing": json.dumps(preprocessing.to_json(), sort_keys=True),
        "detr_onnx.source_sha256": tensors_sha256(checkpoint.tensors),
        "detr_onnx.version": __version__,
    }


def tensors_sha256(tensors: Mapping[str, Array]) -> str:
    """One digest of names, shapes and values, whatever the naming and the order in the checkpoint's file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.shape}".encode())
        digest.update(tensor.data)
    return digest.hexdigest()
