"""Graphs that ONNX Runtime has optimised for this processor; they are cached, so that later starts are faster.

Laying out convolutions for the processor takes half of the start-up time, and drops the symbolic sizes of the feature
maps. Without them ONNX Runtime cannot tell that the sum of a residual block has the size of its shortcut, and allocates
new memory instead of adding in place: three of the largest maps at a time instead of two. So the sizes are named again,
from the strides of the convolutions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines import Engine
from detr_onnx.engines.cpu import cpu_features, processor
from detr_onnx.engines.graph_engine import PIXELS
from detr_onnx.engines.onnxruntime import import_onnxruntime, new_session, onnxruntime_engine
from detr_onnx.engines.providers import ON_CPU
from detr_onnx.errors import EngineError, ModelFileError, OutputError

PROBE = "probe.npy"
PROBE_SHAPE = (1, 3, 32, 32)
PROBE_TOLERANCE = 1e-3  # of the logits' spread: float32 sums in another order; a wrong layout differs by far more
LAID_OUT = "com.microsoft.nchwc"
Axes = tuple[str, int, str, str]


def optimize(graph: Path) -> None:
    """Replaces a graph file of ours by its optimised form, and writes its expected outputs beside it (`check_probe`).

    Raises:
        ModelFileError: ONNX Runtime cannot load the graph.
        OSError, OutputError: the disk is full.
    """
    import tempfile

    import onnx

    np.save(graph.with_name(PROBE), probe(onnxruntime_engine(graph)))
    with tempfile.TemporaryDirectory(dir=graph.parent) as directory:
        written = Path(directory, graph.name)  # same name: it refers to its weights by it
        try:
            new_session(graph, ON_CPU, None, written=written)
        except ModelFileError as error:  # not the graph's fault: it has just been run
            raise OutputError(f"{graph} cannot be optimised", found=error.found) from error
        model = onnx.load(written, load_external_data=False)
        name_sizes(model)
        onnx.save(model, written)
        for file in Path(directory).iterdir():
            file.replace(graph.with_name(file.name))


def optimized_for() -> str:
    """What an optimised graph is valid for: ONNX Runtime's version and a hash of the processor."""
    kind = f"{processor()} {' '.join(cpu_features())}"
    return f"{import_onnxruntime().__version__}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"


def name_sizes(model: Any) -> None:
    """Names the sizes of the feature maps of an `onnx.ModelProto` in ONNX Runtime's own layout."""
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
    """The number by which a convolution or pool divides a size, rounding up; None if it changes it otherwise."""
    kernel, pads = attributes["kernel_shape"], attributes.get("pads", [0, 0, 0, 0])
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    same = [dilation * (size - 1) // 2 for size, dilation in zip(kernel, dilations, strict=True)]
    odd = all(size % 2 for size in kernel)
    return strides[0] if odd and pads == [*same, *same] and strides[0] == strides[1] else None


def _divided(size: str, stride: int) -> str:
    return size if stride == 1 else f"{size}/{stride}"


def probe(engine: Engine) -> NDArray[np.float32]:
    """[Q,C+1+4] logits and boxes for a small test pattern."""
    pattern = np.sin(np.arange(np.prod(PROBE_SHAPE), dtype=np.float32) * 0.7).reshape(PROBE_SHAPE)
    logits, boxes = engine.network(2 * pattern, None)
    return np.concatenate([logits[0], boxes[0]], axis=-1)


def check_probe(engine: Engine, graph: Path) -> None:
    """Raises EngineError if a graph does not compute what it did where it was written, as on another processor."""
    expected, outputs = np.load(graph.with_name(PROBE)), probe(engine)
    difference = float(np.abs(outputs - expected).max() / expected[:, :-4].std())
    if not difference < PROBE_TOLERANCE:
        raise EngineError(
            f"{graph} was optimised for another processor",
            found=f"outputs that differ by {difference:.1e} of their spread",
            remedy=f"delete {graph.parent}, and it is built again",
        )
