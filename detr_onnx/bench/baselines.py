"""The programs that ours is compared with, each written as its own users would write it.

    python baselines.py KIND '{"model": …, "image": …, "threads": 2}' [once]

The program loads the model and prints one line of JSON with its runtime and versions. For every line that it reads
from stdin it runs once and prints the seconds of each part. With "once" it runs once, prints the parts and exits; that
is for measuring the whole process.

This file runs by itself in environments where detr_onnx is not installed, so it imports nothing of it. `interleave.py`
starts it and reads its answers; `ours.py` is the same for this package.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Options = Mapping[str, Any]
"""What a contender runs: model or graph, image or pixels, threads, and other options of its kind."""
Turn = Callable[[], dict[str, float]]
"""Runs once and returns the seconds of each part."""


@dataclass(frozen=True)
class Ready:
    """A loaded contender: how to run it once, and a description of the runtime it uses."""

    turn: Turn
    runs_on: str


SHORT_WARM_UP, SHORT_RUNS = 3, 20
DECODE, PIXELS, NETWORK, POSTPROCESS, DETECT, TOTAL = "decode", "pixels", "network", "postprocess", "detect", "total"
CONCURRENCIES = (1, 2, 4)
IMAGES_A_TURN = 4  # at each concurrency
THRESHOLD = 0.5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORT, LONG = 800, 1333


# Turns


def timed(part: str, action: Callable[[], Any]) -> Turn:
    """A turn of one action."""

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        action()
        return {part: time.perf_counter() - start}

    return turn


def in_parts(whole: str, steps: Sequence[tuple[str, Callable[[Any], Any]]]) -> Turn:
    """A turn of several steps. Each step takes the result of the step before; the first takes None."""

    def turn() -> dict[str, float]:
        parts, value, start = {}, None, time.perf_counter()
        now = start
        for part, step in steps:
            value = step(value)
            before, now = now, time.perf_counter()
            parts[part] = now - before
        return parts | {whole: now - start}

    return turn


def repeated(turn: Turn) -> Turn:
    """A turn that repeats a short turn and returns the median of each part.

    A single run of a few milliseconds, after seconds of other contenders' work, would mostly measure cold caches.
    """

    def turns() -> dict[str, float]:
        runs = [turn() for _ in range(SHORT_WARM_UP + SHORT_RUNS)][SHORT_WARM_UP:]
        return {part: statistics.median(run[part] for run in runs) for part in runs[0]}

    return turns


def concurrent(detect: Callable[[], Any]) -> Turn:
    """A turn that returns seconds per image with one, two and four calls at a time, as parts "1", "2" and "4"."""

    def turn() -> dict[str, float]:
        parts = {}
        for count in CONCURRENCIES:
            with ThreadPoolExecutor(count) as threads:
                list(threads.map(lambda _: None, range(count)))  # starts the threads
                start = time.perf_counter()
                list(threads.map(lambda _: detect(), range(IMAGES_A_TURN)))
                parts[str(count)] = (time.perf_counter() - start) / IMAGES_A_TURN
        return parts

    return turn


def versions_of(*packages: str) -> dict[str, str]:
    """Versions of those of the packages that are installed in this environment."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


# Graphs of other exporters


def stock_network(runtime: str, options: Options) -> Ready:
    """The graph alone, on pixels from a file."""
    import numpy as np

    run, runs_on = _stock(runtime, options)
    return Ready(timed(NETWORK, partial(run, np.load(options["pixels"]))), runs_on)


def stock_detect(runtime: str, options: Options) -> Ready:
    """The graph with a minimal program around it: Pillow, numpy, and the size rule for one image."""
    (run, runs_on), sizes = _stock(runtime, options), options.get("sizes") or (SHORT, LONG)
    steps = [
        (DECODE, lambda _: _decode(options["image"])),
        (PIXELS, lambda image: _preprocess(image, *sizes)),
        (NETWORK, run),
        (POSTPROCESS, lambda outputs: _postprocess(*outputs)),
    ]
    return Ready(in_parts(DETECT, steps), runs_on)


def _stock(runtime: str, options: Options) -> tuple[Callable[[Any], Any], str]:
    """A function that runs the graph, pixels [1,3,H,W] -> logits and boxes, and a description of the runtime."""
    return (_stock_onnxruntime if runtime == "onnxruntime" else _stock_openvino)(options["graph"], options["threads"])


def _stock_onnxruntime(graph: str, threads: int) -> tuple[Callable[[Any], Any], str]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as this package does
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    masks = {value.name: value.shape for value in session.get_inputs()[1:]}

    def run(pixels: Any) -> Any:
        return session.run(["logits", "pred_boxes"], _feeds(pixels, masks))

    return run, f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}"


def _stock_openvino(graph: str, threads: int) -> tuple[Callable[[Any], Any], str]:
    """The graph in OpenVINO, in the precision that OpenVINO chooses."""
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
        request.infer(_feeds(pixels, masks), share_inputs=True)
        return [request.get_tensor(name).data for name in ("logits", "pred_boxes")]

    return run, f"openvino {openvino.__version__.split('-')[0]}, CPU, {precision.get_type_name()}"


def _feeds(pixels: Any, masks: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The pixels, and a mask of ones if the graph has one; axes that the graph fixes keep their size."""
    import numpy as np

    sizes = (len(pixels), *pixels.shape[2:])
    shapes = {
        name: [axis if isinstance(axis, int) else size for axis, size in zip(shape, sizes, strict=True)]
        for name, shape in masks.items()
    }
    return {"pixel_values": pixels, **{name: np.ones(shape, np.int64) for name, shape in shapes.items()}}


def _preprocess(image: Any, short: int, long: int) -> Any:
    """Pixels [1,3,H,W] float32."""
    import numpy as np
    from PIL import Image

    scale = min(short / min(image.size), long / max(image.size))
    scaled = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
    return ((np.asarray(scaled, np.float32) / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]


def _postprocess(logits: Any, boxes: Any) -> Any:
    """Score, class and box (cxcywh in 0..1) of each detection above the threshold."""
    import numpy as np

    weights = np.exp(logits[0] - logits[0].max(axis=-1, keepdims=True))
    scores = (weights / weights.sum(axis=-1, keepdims=True))[:, :-1]
    above = scores.max(axis=-1) > THRESHOLD
    return list(zip(scores.max(axis=-1)[above], scores.argmax(axis=-1)[above], boxes[0][above], strict=True))


def _decode(image: str) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(Path(image).read_bytes())).convert("RGB")


# transformers


def transformers_network(mode: str, options: Options) -> Ready:
    """The torch model alone. `mode`: "eager", "torch.compile", or "bf16" (eager under autocast)."""
    import numpy as np
    import torch

    run, pixels = _transformers(mode, options), torch.from_numpy(np.load(options["pixels"]))
    mask = torch.ones((len(pixels), *pixels.shape[2:]), dtype=torch.int64)
    return Ready(timed(NETWORK, lambda: run({"pixel_values": pixels, "pixel_mask": mask})), f"PyTorch, {mode}")


def transformers_on_device(mode: str, options: Options) -> Ready:
    """The torch model alone on `options["device"]`, in float16 on a GPU, from pixels of the CPU to results there."""
    import numpy as np
    import torch

    device = options["device"]
    dtype = torch.float32 if device == "cpu" else torch.float16
    run, pixels = _transformers(mode, options, device, dtype), torch.from_numpy(np.load(options["pixels"]))

    def turn() -> Any:
        values = pixels.to(device, dtype)
        mask = torch.ones((len(pixels), *pixels.shape[2:]), dtype=torch.int64, device=device)
        outputs = run({"pixel_values": values, "pixel_mask": mask})
        return outputs.logits.cpu(), outputs.pred_boxes.cpu()

    return Ready(timed(NETWORK, turn), f"PyTorch, {mode}, {device}, {str(dtype).removeprefix('torch.')}")


def transformers_parts(mode: str, options: Options) -> Ready:
    """From a file to its detections, part by part, with the image processor that transformers chooses."""
    from transformers import AutoImageProcessor

    run, processor = _transformers(mode, options), AutoImageProcessor.from_pretrained(options["model"])
    sizes: list[tuple[int, int]] = [_decode(options["image"]).size[::-1]]
    steps = [
        (DECODE, lambda _: _decode(options["image"])),
        (PIXELS, lambda image: processor(images=image, return_tensors="pt")),
        (NETWORK, run),
        (
            POSTPROCESS,
            lambda outputs: processor.post_process_object_detection(outputs, THRESHOLD, target_sizes=sizes),
        ),
    ]
    return Ready(in_parts(DETECT, steps), f"PyTorch, {mode}")


def _transformers(mode: str, options: Options, device: str = "cpu", dtype: Any = None) -> Callable[[Any], Any]:
    import contextlib

    import torch
    from transformers import DetrForObjectDetection

    torch.set_num_threads(options["threads"])
    network: Any = DetrForObjectDetection.from_pretrained(options["model"]).eval()
    network = network.to(device, dtype or torch.float32)  # the checkpoint may be in float16
    network = torch.compile(network) if mode == "torch.compile" else network
    cast = partial(torch.autocast, "cpu", torch.bfloat16) if mode == "bf16" else contextlib.nullcontext

    def run(inputs: Any) -> Any:
        with torch.inference_mode(), cast():
            return network(**inputs)

    return run


def transformers_panoptic(options: Options) -> Ready:
    """From a file to its panoptic segments; the threshold keeps as many queries as `kept` says."""
    import torch
    from transformers import AutoImageProcessor, DetrForSegmentation

    torch.set_num_threads(options["threads"])
    network: Any = DetrForSegmentation.from_pretrained(options["model"]).eval()
    processor = AutoImageProcessor.from_pretrained(options["model"])
    sizes: list[tuple[int, int]] = [_decode(options["image"]).size[::-1]]

    def run(inputs: Any) -> Any:
        with torch.inference_mode():
            return network(**inputs)

    def segments(outputs: Any) -> Any:
        scores = outputs.logits[0].softmax(-1)[:, :-1].max(-1).values.tolist()
        threshold = threshold_for(options["kept"], scores)
        return processor.post_process_panoptic_segmentation(outputs, threshold, target_sizes=sizes)

    steps = [
        (DECODE, lambda _: _decode(options["image"])),
        (PIXELS, lambda image: processor(images=image, return_tensors="pt")),
        (NETWORK, run),
        (POSTPROCESS, segments),
    ]
    return Ready(in_parts(DETECT, steps), "PyTorch, eager")


def threshold_for(kept: int, scores: Sequence[float]) -> float:
    """A threshold that so many of the scores exceed."""
    ordered = [1.0, *sorted(scores, reverse=True), 0.0]
    return 1.0 if kept == 0 else (ordered[kept] + ordered[kept + 1]) / 2


def transformers_preprocessing(options: Options) -> Ready:
    """The image processor of transformers alone, from an encoded image to a tensor."""
    import torch
    from transformers import AutoImageProcessor

    torch.set_num_threads(options["threads"])
    processor = AutoImageProcessor.from_pretrained(options["model"])
    steps = [
        (DECODE, lambda _: _decode(options["image"])),
        ("processor", lambda image: processor(images=image, return_tensors="pt")),
    ]
    return Ready(repeated(in_parts(TOTAL, steps)), type(processor).__name__)


def transformers_pipeline(options: Options) -> Ready:
    """The pipeline of transformers, eager, float32, from a file to its detections."""
    return Ready(timed(DETECT, _pipeline(options)), "PyTorch, pipeline")


def transformers_throughput(options: Options) -> Ready:
    """The same pipeline, called from several threads."""
    return Ready(concurrent(_pipeline(options)), "PyTorch, pipeline")


def _pipeline(options: Options) -> Callable[[], Any]:
    import torch
    from transformers import pipeline

    torch.set_num_threads(options["threads"])
    detect = pipeline("object-detection", model=options["model"], device="cpu")
    detect.model.float()
    return lambda: detect(options["image"], threshold=THRESHOLD)


KINDS: dict[str, Callable[[Options], Ready]] = {
    **{f"{name}-network": partial(stock_network, name) for name in ("onnxruntime", "openvino")},
    **{f"{name}-detect": partial(stock_detect, name) for name in ("onnxruntime", "openvino")},
    **{f"{name}-network": partial(transformers_network, name) for name in ("eager", "bf16", "torch.compile")},
    **{f"{name}-device": partial(transformers_on_device, name) for name in ("eager", "torch.compile")},
    **{f"{name}-parts": partial(transformers_parts, name) for name in ("eager", "bf16", "torch.compile")},
    "panoptic": transformers_panoptic,
    "preprocessing": transformers_preprocessing,
    "pipeline": transformers_pipeline,
    "throughput": transformers_throughput,
}
PACKAGES = ("transformers", "torch", "onnxruntime", "openvino")


# The protocol that `interleave.py` speaks


def take_turns(
    kinds: Mapping[str, Callable[[Options], Ready]], packages: Sequence[str], arguments: Sequence[str]
) -> None:
    """Runs one turn for every line on stdin, until stdin is closed.

    Args:
        kinds: the contenders by name.
        packages: the versions of those that were imported are reported.
        arguments: the kind, its options as JSON, and optionally "once".
    """
    kind, options, *once = arguments
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    def answer(content: dict[str, Any]) -> None:
        channel.write(f"{json.dumps(content)}\n")
        channel.flush()

    def or_report(action: Callable[[], Any]) -> Any:
        """The action's result. If it fails, the error is the answer and the process exits."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - a baseline that cannot run is left out, whatever it raised
            answer({"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]})
            sys.exit(1)

    ready = or_report(lambda: kinds[kind](json.loads(options)))
    if once:
        return answer(or_report(ready.turn))
    imported = [name for name in packages if {"pillow": "PIL"}.get(name, name) in sys.modules]
    answer({"runs_on": ready.runs_on, "versions": versions_of(*imported)})
    for _ in sys.stdin:
        answer(or_report(ready.turn))
    return None


if __name__ == "__main__":
    take_turns(KINDS, PACKAGES, sys.argv[1:])
