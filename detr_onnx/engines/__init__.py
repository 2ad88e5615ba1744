"""The engines. Each turns a model into an `Engine`, whose `network(pixels, mask)` returns logits and boxes.

    table            every engine by name: what it reads, needs and takes, and how it opens a model
    options          the options of an engine: `EngineOptions`
    numpy            runs a checkpoint in numpy; turn lets one thread at a time compute
    onnxruntime      runs a graph file in ONNX Runtime: providers, optimized_graph, io_binding (GPUs), arm_bfloat16
    openvino         runs a graph file in OpenVINO: openvino_package (the import), bfloat16 (mixed
                     precision), openvino_nodes
    graph_engine     what these two share: the names of inputs and outputs, checks of the graph, its inputs

Before an engine loads a graph file, `graph_file` checks it: loops, external_data, protobuf. `deadline` limits the time
of loading and of the first run, `error_messages` shortens what engines say, and `cpu` names the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

Network = Callable[[Floats, Mask | None], tuple[Floats, Floats]]
"""pixels [B,3,H,W], mask [B,H,W] or None -> logits [B,Q,C+1], boxes [B,Q,4] cxcywh in 0..1."""


class PanopticOutputs(NamedTuple):
    """The outputs of a panoptic network for a batch of images.

    Attributes:
        logits: [B,Q,C+1]; the last class is "no object".
        boxes: [B,Q,4] cxcywh in 0..1.
        kept: [K,2], image and query of each mask: those whose score is greater than the threshold.
        masks: [K,⌈H/4⌉,⌈W/4⌉] logits, on the padded canvas.
    """

    logits: Floats
    boxes: Floats
    kept: NDArray[np.int64]
    masks: Floats


PanopticNetwork = Callable[[Floats, Mask | None, float], PanopticOutputs]
"""pixels [B,3,H,W], mask [B,H,W] or None, threshold -> the outputs, with a mask for each query above the threshold."""

NOTHING_KEPT = 2.0  # a threshold above every score: a panoptic network then computes no masks


class AttentionOutputs(NamedTuple):
    """The outputs of a network with attention maps for a batch of images.

    L layers and M heads are those of the decoder in `objects`, and those of the encoder in `cells`.

    Attributes:
        logits: [B,Q,C+1]; the last class is "no object".
        boxes: [B,Q,4] cxcywh in 0..1.
        kept: [K,2], image and query of each query whose score is greater than the threshold.
        objects: [K,L,M,h,w] the decoder's cross-attention of the kept queries to the cells; each head sums to 1.
        cells: [B,P,L,M,h,w] the encoder's self-attention of the P requested cells to all cells; each head sums to 1.
    """

    logits: Floats
    boxes: Floats
    kept: NDArray[np.int64]
    objects: Floats
    cells: Floats


class AttentionNetwork(NamedTuple):
    """A network with attention maps.

    Attributes:
        stride: pixels of a cell; there are h = ⌈H/stride⌉ rows of w = ⌈W/stride⌉ cells.
        attend: pixels [B,3,H,W], mask [B,H,W] or None, threshold, numbers [B,P] of cells counted row by row -> the
            outputs.
    """

    stride: int
    attend: Callable[[Floats, Mask | None, float, NDArray[np.int64]], AttentionOutputs]


@dataclass(frozen=True)
class Engine:
    """A model that is ready to run.

    Attributes:
        title: engine, version, device and precision, such as "onnxruntime 1.23.0, CPUExecutionProvider, fp32".
        network: pixels and mask to logits and boxes, see `Network`.
        batches_mixed_sizes: whether it takes a mask, so that images of different sizes can share a batch.
        canvas_hw: the only input size it takes; None if it takes any.
        batch: the only batch size it takes; None if it takes any.
        classes: the number of classes without "no object"; None if only the outputs tell.
        metadata: of the graph file; None for a checkpoint.
        segment: the network with masks; None if the model has no mask head.
        attention: opens the network with attention maps, which takes time when it is first called; None if the model
            has none.
    """

    title: str
    network: Network
    batches_mixed_sizes: bool = True
    canvas_hw: tuple[int, int] | None = None
    batch: int | None = None
    classes: int | None = None
    metadata: Mapping[str, str] | None = None
    segment: PanopticNetwork | None = None
    attention: Callable[[], AttentionNetwork] | None = None
