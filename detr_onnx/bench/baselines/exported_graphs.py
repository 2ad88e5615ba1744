"""Graphs of other exporters in plain sessions of ONNX Runtime and OpenVINO."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from detr_onnx.bench.baselines.images import decode, preprocess
from detr_onnx.bench.baselines.turns import (
    DECODE,
    DETECT,
    NETWORK,
    PIXELS,
    POSTPROCESS,
    THRESHOLD,
    Options,
    Ready,
    in_parts,
    timed,
)

SHORT, LONG = 800, 1333  # of the resized image, where the options have no sizes

Run = Callable[[Any], Any]
"""Pixels [1,3,H,W] -> logits and boxes."""


def stock_network(runtime: str, options: Options) -> Ready:
    """The graph alone, on pixels from a file."""
    import numpy as np

    run, runs_on = _session(runtime, options)
    return Ready(timed(NETWORK, partial(run, np.load(options["pixels"]))), runs_on)


def stock_detect(runtime: str, options: Options) -> Ready:
    """The graph with a minimal program around it: Pillow, numpy, and the size rule for one image."""
    (run, runs_on), sizes = _session(runtime, options), options.get("sizes") or (SHORT, LONG)
    steps = [
        (DECODE, lambda _: decode(options["image"])),
        (PIXELS, lambda image: preprocess(image, *sizes)),
        (NETWORK, run),
        (POSTPROCESS, lambda outputs: _postprocess(*outputs)),
    ]
    return Ready(in_parts(DETECT, steps), runs_on)


def _session(runtime: str, options: Options) -> tuple[Run, str]:
    """A function that runs the graph, and a description of the runtime."""
    open_graph = _onnxruntime_session if runtime == "onnxruntime" else _openvino_session
    return open_graph(options["graph"], options["threads"])


def _onnxruntime_session(graph: str, threads: int) -> tuple[Run, str]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as this package does
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    masks = {value.name: value.shape for value in session.get_inputs()[1:]}

    def run(pixels: Any) -> Any:
        return session.run(["logits", "pred_boxes"], feeds(pixels, masks))

    return run, f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}"


def _openvino_session(graph: str, threads: int) -> tuple[Run, str]:
    """In the precision that OpenVINO chooses."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would send an event over the network
    import openvino

    core = openvino.Core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    model = core.read_model(graph)
    masks = {
        value.get_any_name(): [axis.get_length() if axis.is_static else None for axis in value.get_partial_shape()]
        for value in model.inputs[1:]
    }
    compiled = core.compile_model(model, "CPU", options)
    request, precision = compiled.create_infer_request(), compiled.get_property("INFERENCE_PRECISION_HINT")

    def run(pixels: Any) -> Any:
        request.infer(feeds(pixels, masks), share_inputs=True)
        return [request.get_tensor(name).data for name in ("logits", "pred_boxes")]

    return run, f"openvino {openvino.__version__.split('-')[0]}, CPU, {precision.get_type_name()}"


def feeds(pixels: Any, masks: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The pixels, and a mask of ones if the graph has one; axes that the graph fixes keep their size."""
    import numpy as np

    sizes = (len(pixels), *pixels.shape[2:])
    shapes = {
        name: [axis if isinstance(axis, int) else size for axis, size in zip(shape, sizes, strict=True)]
        for name, shape in masks.items()
    }
    return {"pixel_values": pixels, **{name: np.ones(shape, np.int64) for name, shape in shapes.items()}}


def _postprocess(logits: Any, boxes: Any) -> Any:
    """Score, class and box (cxcywh in 0..1) of each detection above the threshold."""
    import numpy as np

    weights = np.exp(logits[0] - logits[0].max(axis=-1, keepdims=True))
    scores = (weights / weights.sum(axis=-1, keepdims=True))[:, :-1]
    above = scores.max(axis=-1) > THRESHOLD
    return list(zip(scores.max(axis=-1)[above], scores.argmax(axis=-1)[above], boxes[0][above], strict=True))
