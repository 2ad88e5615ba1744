"""The engine of a graph file, for ONNX Runtime and OpenVINO alike: checks that the graph is a DETR, and feeds it.

`graph_engine` takes a function that runs the graph. Graphs of other exporters run, too: a mask input of a fixed size is
filled with ones, and a graph without a mask input gives an engine whose `batches_mixed_sizes` is False.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines import NOTHING_KEPT, AttentionNetwork, AttentionOutputs, Engine, Floats, Mask, PanopticOutputs
from detr_onnx.errors import CheckpointError, ModelFileError, UsageError
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.json_input import parse_object
from detr_onnx.network.config import DetrConfig

PIXELS, MASK, LOGITS, BOXES = "pixel_values", "pixel_mask", "logits", "pred_boxes"
THRESHOLD, KEPT, MASKS = "threshold", "mask_queries", "pred_masks"  # of graphs with a mask head
POINTS, ATTENDING, OBJECTS, CELLS = "points", "attention_queries", "decoder_attention", "encoder_attention"
DETECTION, PANOPTIC = (LOGITS, BOXES), (LOGITS, BOXES, KEPT, MASKS)
ATTENTIVE = LOGITS, BOXES, ATTENDING, OBJECTS, CELLS  # of graphs with attention maps
FLOATS = ("float32", "float16")
TYPES = {
    **dict.fromkeys((PIXELS, LOGITS, BOXES, THRESHOLD, MASKS, OBJECTS, CELLS), FLOATS),
    MASK: ("int64", "int32", "bool", *FLOATS),
    **dict.fromkeys((KEPT, POINTS, ATTENDING), ("int64",)),
}
OWN_VERSION, PREPROCESSING = "detr_onnx.version", "detr_onnx.preprocessing"  # keys in the metadata of our own graphs
AXES = {PIXELS: 4, MASK: 3, LOGITS: 3, BOXES: 3, THRESHOLD: 1, KEPT: 2, MASKS: 3}
AXES |= {POINTS: 2, ATTENDING: 2, OBJECTS: 5, CELLS: 6}
FETCH_AGAIN = "export or fetch the file again"
MOST_VALUES = 2**28  # of an input or output: 1 GiB of float32, 80 images of 800x1333

Feeds = Mapping[str, NDArray[np.generic]]
Run = Callable[[Feeds, Sequence[str]], tuple[NDArray[np.generic], ...]]
"""Inputs by name, and names of outputs -> these outputs."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: its name.
        dtype: numpy's name of its element type.
        shape: the length of each axis, None or a name if it is dynamic; empty if the rank is unknown.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def length(self, axis: int) -> int | None:
        """The length of an axis; None if it is dynamic."""
        value = self.shape[axis] if self.shape else None
        return value if isinstance(value, int) else None

    def fixed_hw(self) -> tuple[int, int] | None:
        """Height and width, the last two axes; None if one of them is dynamic."""
        height, width = self.length(-2), self.length(-1)
        return (height, width) if height is not None and width is not None else None

    def __str__(self) -> str:
        axes = ",".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name} {self.dtype} [{axes}]"


def graph_engine(
    path: Path, title: str, inputs: Sequence[Port], outputs: Sequence[Port], metadata: Mapping[str, str], run: Run
) -> Engine:
    """The engine that runs a loaded graph.

    Args:
        path: of the file, for error messages.
        title: engine, version, device and precision.
        inputs, outputs: of the graph.
        metadata: of the file.
        run: one inference of the graph.

    Raises:
        ModelFileError: the graph does not map pixels to DETR's logits and boxes.
    """
    input_ports, output_ports = {port.name: port for port in inputs}, {port.name: port for port in outputs}
    check_sizes(path, [*inputs, *outputs])
    _check_signature(path, input_ports, output_ports)
    has_masks = MASKS in output_ports and THRESHOLD in input_ports
    has_attention = {ATTENDING, OBJECTS, CELLS} <= output_ports.keys() and {THRESHOLD, POINTS} <= input_ports.keys()
    takes_any_mask, feeds_of = _input_maker(path, input_ports, is_ours=OWN_VERSION in metadata)
    outputs_of = _checked_outputs(path, run)

    def network(pixels: Floats, valid: Mask | None) -> tuple[Floats, Floats]:
        logits, boxes = outputs_of({**feeds_of(pixels, valid), **_other_feeds(input_ports, len(pixels))}, DETECTION)
        return logits, boxes

    def segment(pixels: Floats, valid: Mask | None, threshold: float) -> PanopticOutputs:
        feeds = {**feeds_of(pixels, valid), THRESHOLD: np.full(1, threshold, np.float32)}
        return PanopticOutputs(*outputs_of(feeds, PANOPTIC))

    logits = output_ports[LOGITS].length(-1)
    return Engine(
        title=title,
        network=network,
        batches_mixed_sizes=takes_any_mask,
        canvas_hw=input_ports[PIXELS].fixed_hw(),
        batch=input_ports[PIXELS].length(0),
        classes=None if logits is None else logits - 1,  # the last class is "no object"
        metadata=metadata,
        segment=segment if has_masks else None,
        attention=(lambda: _attention_network(path, metadata, feeds_of, outputs_of)) if has_attention else None,
    )


def _checked_outputs(path: Path, run: Run) -> Callable[[Feeds, Sequence[str]], list[Any]]:
    """Wraps an inference so that its outputs are float32 or int64.

    It raises ModelFileError for logits and boxes of wrong shapes: a file need not declare the shapes of its outputs.
    """

    def outputs_of(feeds: Feeds, names: Sequence[str]) -> list[Any]:
        outputs = [_as_32_or_64_bit(values) for values in run(feeds, names)]
        logits, boxes, images = outputs[0].shape, outputs[1].shape, images_in(feeds, names)
        is_whole = len(logits) == 3 and logits[0] == images and logits[1] >= 1 and logits[2] >= 2
        if not is_whole or boxes != (*logits[:2], 4):
            raise ModelFileError(
                f"{path} is not a DETR",
                found=f"{LOGITS} of shape {list(logits)} and {BOXES} of shape {list(boxes)} for {images} images",
                expected=f"{LOGITS} [images,queries,classes + 1] and {BOXES} [images,queries,4]",
            )
        return outputs

    return outputs_of


def _as_32_or_64_bit(values: NDArray[np.generic]) -> NDArray[Any]:
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int64, copy=False)


def images_in(feeds: Feeds, names: Sequence[str]) -> int:
    """The number of images that an inference is fed."""
    return len(feeds[PIXELS])


def _other_feeds(inputs: Mapping[str, Port], batch: int) -> Feeds:
    """The other inputs of a graph with masks or attention maps, so that it computes as few of them as possible."""
    feeds: dict[str, NDArray[np.generic]] = {
        THRESHOLD: np.full(1, NOTHING_KEPT, np.float32),
        POINTS: np.zeros((batch, 1), np.int64),
    }
    return {name: values for name, values in feeds.items() if name in inputs}


def _attention_network(
    path: Path,
    metadata: Mapping[str, str],
    feeds_of: Callable[[Floats, Mask | None], Feeds],
    outputs_of: Callable[[Feeds, Sequence[str]], list[Any]],
) -> AttentionNetwork:
    """The network with attention maps."""

    def attend(pixels: Floats, valid: Mask | None, threshold: float, cells: NDArray[np.int64]) -> AttentionOutputs:
        some = cells if cells.shape[1] else np.zeros((len(pixels), 1), np.int64)  # engines stumble over empty axes
        feeds = {**feeds_of(pixels, valid), THRESHOLD: np.full(1, threshold, np.float32), POINTS: some}
        outputs = AttentionOutputs(*outputs_of(feeds, ATTENTIVE))
        return outputs._replace(cells=outputs.cells[:, : cells.shape[1]])

    return AttentionNetwork(_stride(path, metadata), attend)


def _stride(path: Path, metadata: Mapping[str, str]) -> int:
    """The stride of the last feature map in pixels, from the config in the metadata of our graphs."""
    try:
        fields = parse_object(metadata.get("detr_onnx.config", ""), "detr_onnx.config")
        return DetrConfig.from_fields(fields).backbone.stride
    except CheckpointError as error:
        raise metadata_error(path, error) from error


def read_preprocessing(path: Path, text: str) -> Preprocessing:
    """The preprocessing of a graph that detr-onnx exported, from the text in its metadata.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        return Preprocessing.from_json(parse_object(text, PREPROCESSING), f"the metadata of {path}")
    except CheckpointError as error:
        raise metadata_error(path, error) from error


def metadata_error(path: Path, error: CheckpointError) -> ModelFileError:
    """The error for a graph that detr-onnx exported, with metadata that cannot be read."""
    what = f"{path} has metadata that cannot be read"
    return ModelFileError(what, found=str(error), remedy="export the file again")


def _input_maker(
    path: Path, inputs: Mapping[str, Port], is_ours: bool
) -> tuple[bool, Callable[[Floats, Mask | None], dict[str, NDArray[np.generic]]]]:
    """Whether a graph takes a mask of the image's size, and a function that makes its inputs from pixels and a mask."""
    pixels_port, mask = inputs[PIXELS], inputs.get(MASK)
    mask_hw = mask.fixed_hw() if mask else None
    takes_any_mask = mask is not None and mask_hw in (None, pixels_port.fixed_hw())
    ones_hw = (1, 1) if mask_hw is None and is_ours else mask_hw  # our graphs resize it; one pixel saves 7 MB

    def feeds_of(pixels: Floats, valid: Mask | None) -> dict[str, NDArray[np.generic]]:
        if not takes_any_mask:
            _check_unpadded(path, valid)
        feeds: dict[str, NDArray[np.generic]] = {PIXELS: pixels.astype(pixels_port.dtype, copy=False)}
        if mask is not None:
            if valid is None or valid.all() or not takes_any_mask:
                valid = np.ones((len(pixels), *(ones_hw or pixels.shape[2:])), np.bool_)
            feeds[MASK] = valid.astype(mask.dtype)
        return feeds

    return takes_any_mask, feeds_of


def check_sizes(path: Path, ports: Sequence[Port]) -> None:
    """Raises ModelFileError for inputs and outputs whose fixed axes alone would fill the memory, or are empty."""
    for port in ports:
        lengths = [length for length in port.shape if isinstance(length, int)]
        if any(length < 1 for length in lengths) or math.prod(lengths) > MOST_VALUES:
            raise ModelFileError(
                f"{path} is not a DETR", found=str(port), expected=f"inputs and outputs of 1 to {MOST_VALUES} values"
            )


def not_text_error(path: Path, error: UnicodeDecodeError) -> ModelFileError:
    """The error for a graph with a name or metadata that is not UTF-8."""
    found = f"bytes {bytes(error.object[:20])!r}"
    return ModelFileError(f"{path} has names or metadata that are not text", found=found, remedy=FETCH_AGAIN)


def _check_unpadded(path: Path, mask: Mask | None) -> None:
    if mask is not None and not mask.all():
        raise UsageError(
            f"{path} takes no mask",
            found="a mask with padding",
            remedy="give it images of one size at a time, or export a graph that takes a mask",
        )


def _check_signature(path: Path, inputs: Mapping[str, Port], outputs: Mapping[str, Port]) -> None:
    """Raises ModelFileError unless the graph maps pixels, and perhaps a mask, to logits and boxes."""
    if {"image", "threshold"} <= inputs.keys():
        remedy = "run it with ONNX Runtime alone, as in docs/files.md, or export it without --end-to-end"
        raise ModelFileError(f"{path} is an end-to-end graph, which needs no detector around it", remedy=remedy)
    used = dict.fromkeys((*PANOPTIC, *ATTENTIVE))
    ports = [*inputs.values(), *(outputs[name] for name in used if name in outputs and _is_used(name, inputs))]
    fits = all(
        port.name in TYPES and port.dtype in TYPES[port.name] and len(port.shape) in (0, AXES[port.name])
        for port in ports
    )
    pixels, boxes = inputs.get(PIXELS), outputs.get(BOXES)
    whole = pixels is not None and len(pixels.shape) == AXES[PIXELS] and pixels.length(1) in (3, None)
    if not fits or not whole or LOGITS not in outputs or boxes is None or boxes.length(2) not in (4, None):
        raise ModelFileError(
            f"{path} is not a DETR",
            found=f"inputs {_listed(inputs)}; outputs {_listed(outputs)}",
            expected=f"inputs {PIXELS} [batch,3,height,width] and optionally {MASK} [batch,height,width]; "
            f"outputs {LOGITS} [batch,queries,classes + 1] and {BOXES} [batch,queries,4]",
        )


def _is_used(output: str, inputs: Mapping[str, Port]) -> bool:
    """Whether an output is read. Masks and maps are read only of our own graphs; those of others have all queries'."""
    return output in DETECTION or THRESHOLD in inputs


def _listed(ports: Mapping[str, Port]) -> str:
    return ", ".join(map(str, ports.values())) or "none"
