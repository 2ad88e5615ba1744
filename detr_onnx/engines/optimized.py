"""Graphs as ONNX Runtime has optimised them for this processor, kept so that no later start has to do it again.

Laying convolutions out for the processor takes half of a start, and loses the names of the feature maps' sizes. Without
them ONNX Runtime cannot know that a block's sum is as large as its shortcut, and takes new memory instead of adding in
place: three of the largest maps at a time instead of two. So the names are given again, by the convolutions' strides.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines import Engine
from detr_onnx.engines.cpu import cpu_features, processor
from detr_onnx.engines.graph import PIXELS
from detr_onnx.engines.onnxruntime import ON_CPU, import_onnxruntime, new_session, onnxruntime_engine
from detr_onnx.errors import EngineError

PROBE = "probe.npy"
PROBE_SHAPE = (1, 3, 32, 32)
PROBE_TOLERANCE = 1e-3  # of the logits' spread: float32 sums in another order; another layout gives other numbers
LAID_OUT = "com.microsoft.nchwc"
Axes = tuple[str, int, str, str]


def optimize(graph: Path) -> None:
    """Puts the optimised graph in the place of a file of ours, and beside it what it must answer (`check_probe`).

    Raises:
        ModelFileError: when ONNX Runtime cannot load the graph.
    """
    import onnx

    np.save(graph.with_name(PROBE), probe(onnxruntime_engine(graph)))
    with tempfile.TemporaryDirectory(dir=graph.parent) as place:
        written = Path(place, graph.name)  # of the same name, by which it points to its weights
        new_session(graph, ON_CPU, None, written=written)
        model = onnx.load(written, load_external_data=False)
        name_sizes(model)
        onnx.save(model, written)
        for file in Path(place).iterdir():
            file.replace(graph.with_name(file.name))


def optimized_for() -> str:
    """What an optimised graph is for: ONNX Runtime's version and, in eight digits, the processor."""
    kind = f"{processor()} {' '.join(cpu_features())}"
    return f"{import_onnxruntime().__version__}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"


def name_sizes(model: Any) -> None:
    """Gives the feature maps of an `onnx.ModelProto` in ONNX Runtime's own layout their sizes, in names."""
    from onnx import TensorProto
    from onnx.helper import get_attribute_value, make_tensor_value_info

    kernels = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    sizes: dict[str, Axes] = {PIXELS: ("batch", 3, "height", "width")}
    for node in model.graph.node:
        if node.domain != LAID_OUT or node.op_type not in ("Conv", "MaxPool") or node.input[0] not in sizes:
            continue
        batch, channels, height, width = sizes[node.input[0]]
        stride = stride_of({attribute.name: get_attribute_value(attribute) for attribute in node.attribute})
        if stride is not None:
            channels = kernels[node.input[1]][0] if node.op_type == "Conv" else channels
            out = batch, channels, _divided(height, stride), _divided(width, stride)
            sizes[node.output[0]] = out
            model.graph.value_info.append(make_tensor_value_info(node.output[0], TensorProto.FLOAT, out))


def stride_of(attributes: dict[str, Any]) -> int | None:
    """By what a convolution or pool divides a size, rounding up; None where it does anything else to it."""
    kernel, pads = attributes["kernel_shape"], attributes.get("pads", [0, 0, 0, 0])
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    same = [dilation * (size - 1) // 2 for size, dilation in zip(kernel, dilations, strict=True)]
    odd = all(size % 2 for size in kernel)
    return strides[0] if odd and pads == [*same, *same] and strides[0] == strides[1] else None


def _divided(size: str, stride: int) -> str:
    return size if stride == 1 else f"{size}/{stride}"


def probe(engine: Engine) -> NDArray[np.float32]:
    """[Q,C+1+4] logits and boxes of a small pattern."""
    pattern = np.sin(np.arange(np.prod(PROBE_SHAPE), dtype=np.float32) * 0.7).reshape(PROBE_SHAPE)
    logits, boxes = engine.network(2 * pattern, None)
    return np.concatenate([logits[0], boxes[0]], axis=-1)


def check_probe(engine: Engine, graph: Path) -> None:
    """Raises EngineError when a graph answers otherwise than where it was written: it is of another processor."""
    expected, found = np.load(graph.with_name(PROBE)), probe(engine)
    apart = float(np.abs(found - expected).max() / expected[:, :-4].std())
    if not apart < PROBE_TOLERANCE:
        raise EngineError(
            f"{graph} was optimised for another processor",
            found=f"answers {apart:.1e} of their spread apart",
            remedy=f"delete {graph.parent}; it is written again",
        )
