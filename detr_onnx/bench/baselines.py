"""What ours is measured beside, each as its own users would write it; this file runs by itself in their environments.

    python peers.py KIND '{"model": …, "image": …, "threads": 2}' [once]

says in one line of JSON that it is ready and which versions it runs on, and then, for every line it reads, takes one
turn and answers with the seconds of its parts. With "once" it takes one turn, prints its parts and ends: the whole
process is what is measured then. It imports nothing of detr_onnx, which is not installed there; `turns.py` is the other
end, and `contenders.py` the same for ours.
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

Given = Mapping[str, Any]
"""What a contender is told: model or graph, image or pixels, threads, and what else its kind takes."""
Turn = Callable[[], dict[str, float]]
"""One turn: part -> seconds."""


@dataclass(frozen=True)
class Ready:
    """A contender that is loaded: how it takes a turn, and what it really runs on, for people."""

    turn: Turn
    runs_on: str


SHORT_WARM_UP, SHORT_RUNS = 3, 20
DECODE, PIXELS, NETWORK, POSTPROCESS, DETECT, TOTAL = "decode", "pixels", "network", "postprocess", "detect", "total"
AT_ONCE = (1, 2, 4)
IMAGES_A_TURN = 4  # of each of these
THRESHOLD = 0.5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORT, LONG = 800, 1333


# A turn


def timed(part: str, action: Callable[[], Any]) -> Turn:
    """A turn that is one action."""

    def turn() -> dict[str, float]:
        begin = time.perf_counter()
        action()
        return {part: time.perf_counter() - begin}

    return turn


def in_parts(whole: str, steps: Sequence[tuple[str, Callable[[Any], Any]]]) -> Turn:
    """A turn of several steps, each given what the one before it gave, the first None."""

    def turn() -> dict[str, float]:
        parts, value, begin = {}, None, time.perf_counter()
        reached = begin
        for part, step in steps:
            value = step(value)
            before, reached = reached, time.perf_counter()
            parts[part] = reached - before
        return parts | {whole: reached - begin}

    return turn


def repeated(turn: Turn) -> Turn:
    """A turn that takes a short one several times and answers with the median of each part.

    A single pass of some milliseconds after seconds of the others' work would tell of cold caches and little else.
    """

    def turns() -> dict[str, float]:
        taken = [turn() for _ in range(SHORT_WARM_UP + SHORT_RUNS)][SHORT_WARM_UP:]
        return {part: statistics.median(one[part] for one in taken) for part in taken[0]}

    return turns


def crowded(detect: Callable[[], Any]) -> Turn:
    """Seconds an image when one, two and four are asked for at a time, as "1", "2" and "4"."""

    def turn() -> dict[str, float]:
        parts = {}
        for count in AT_ONCE:
            with ThreadPoolExecutor(count) as threads:
                list(threads.map(lambda _: None, range(count)))  # has them started
                begin = time.perf_counter()
                list(threads.map(lambda _: detect(), range(IMAGES_A_TURN)))
                parts[str(count)] = (time.perf_counter() - begin) / IMAGES_A_TURN
        return parts

    return turn


def versions_of(*packages: str) -> dict[str, str]:
    """Versions of the packages that are installed in this environment."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# Another exporter's graph


def stock_network(runtime: str, given: Given) -> Ready:
    """The graph alone, on pixels from a file."""
    import numpy as np

    run, runs_on = _stock(runtime, given)
    return Ready(timed(NETWORK, partial(run, np.load(given["pixels"]))), runs_on)


def stock_detect(runtime: str, given: Given) -> Ready:
    """The graph with the leanest program around it: Pillow, numpy, the size rule for this one image."""
    (run, runs_on), sizes = _stock(runtime, given), given.get("sizes") or (SHORT, LONG)
    steps = [
        (DECODE, lambda _: _decoded(given["image"])),
        (PIXELS, lambda image: _pixels_by_hand(image, *sizes)),
        (NETWORK, run),
        (POSTPROCESS, lambda answer: _rows_by_hand(*answer)),
    ]
    return Ready(in_parts(DETECT, steps), runs_on)


def _stock(runtime: str, given: Given) -> tuple[Callable[[Any], Any], str]:
    """The graph in a plain session, pixels [1,3,H,W] -> logits and boxes; and what it runs on."""
    return (_stock_onnxruntime if runtime == "onnxruntime" else _stock_openvino)(given["graph"], given["threads"])


def _stock_onnxruntime(graph: str, threads: int) -> tuple[Callable[[Any], Any], str]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as ours
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    masks = {value.name: value.shape for value in session.get_inputs()[1:]}

    def run(pixels: Any) -> Any:
        return session.run(["logits", "pred_boxes"], _feeds(pixels, masks))

    return run, f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}"


def _stock_openvino(graph: str, threads: int) -> tuple[Callable[[Any], Any], str]:
    """In the precision that OpenVINO takes by itself."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would report the import to its makers
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
    """The pixels, and a mask of ones where the exporter kept one, of its size where that is frozen."""
    import numpy as np

    sizes = (len(pixels), *pixels.shape[2:])
    shapes = {
        name: [axis if isinstance(axis, int) else size for axis, size in zip(shape, sizes, strict=True)]
        for name, shape in masks.items()
    }
    return {"pixel_values": pixels, **{name: np.ones(shape, np.int64) for name, shape in shapes.items()}}


def _pixels_by_hand(image: Any, short: int, long: int) -> Any:
    """[1,3,H,W] float32."""
    import numpy as np
    from PIL import Image

    scale = min(short / min(image.size), long / max(image.size))
    scaled = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
    return ((np.asarray(scaled, np.float32) / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]


def _rows_by_hand(logits: Any, boxes: Any) -> Any:
    """Score, class and box, cxcywh in 0..1, of what is found."""
    import numpy as np

    weights = np.exp(logits[0] - logits[0].max(axis=-1, keepdims=True))
    scores = (weights / weights.sum(axis=-1, keepdims=True))[:, :-1]
    kept = scores.max(axis=-1) > THRESHOLD
    return list(zip(scores.max(axis=-1)[kept], scores.argmax(axis=-1)[kept], boxes[0][kept], strict=True))


def _decoded(image: str) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(Path(image).read_bytes())).convert("RGB")


# transformers


def transformers_network(way: str, given: Given) -> Ready:
    """The torch model alone: "eager", through "torch.compile", both in float32, or eager under autocast to "bf16"."""
    import numpy as np
    import torch

    run, pixels = _transformers(way, given), torch.from_numpy(np.load(given["pixels"]))
    mask = torch.ones((len(pixels), *pixels.shape[2:]), dtype=torch.int64)
    return Ready(timed(NETWORK, lambda: run({"pixel_values": pixels, "pixel_mask": mask})), f"PyTorch, {way}")


def transformers_parts(way: str, given: Given) -> Ready:
    """From a file to its detections, with the image processor that transformers takes by itself, part by part."""
    from transformers import AutoImageProcessor

    run, processor = _transformers(way, given), AutoImageProcessor.from_pretrained(given["model"])
    sizes: list[tuple[int, int]] = [_decoded(given["image"]).size[::-1]]
    steps = [
        (DECODE, lambda _: _decoded(given["image"])),
        (PIXELS, lambda image: processor(images=image, return_tensors="pt")),
        (NETWORK, run),
        (
            POSTPROCESS,
            lambda answer: processor.post_process_object_detection(answer, THRESHOLD, target_sizes=sizes),
        ),
    ]
    return Ready(in_parts(DETECT, steps), f"PyTorch, {way}")


def _transformers(way: str, given: Given) -> Callable[[Any], Any]:
    import contextlib

    import torch
    from transformers import DetrForObjectDetection

    torch.set_num_threads(given["threads"])
    network: Any = DetrForObjectDetection.from_pretrained(given["model"]).float().eval()  # it may be kept in float16
    network = torch.compile(network) if way == "torch.compile" else network
    cast = partial(torch.autocast, "cpu", torch.bfloat16) if way == "bf16" else contextlib.nullcontext

    def run(inputs: Any) -> Any:
        with torch.inference_mode(), cast():
            return network(**inputs)

    return run


def transformers_preprocessing(given: Given) -> Ready:
    """Its image processor alone, from the bytes of an image to a tensor."""
    import torch
    from transformers import AutoImageProcessor

    torch.set_num_threads(given["threads"])
    processor = AutoImageProcessor.from_pretrained(given["model"])
    steps = [
        (DECODE, lambda _: _decoded(given["image"])),
        ("processor", lambda image: processor(images=image, return_tensors="pt")),
    ]
    return Ready(repeated(in_parts(TOTAL, steps)), type(processor).__name__)


def transformers_pipeline(given: Given) -> Ready:
    """Its pipeline, eager, float32, from a file to its detections."""
    return Ready(timed(DETECT, _pipeline(given)), "PyTorch, pipeline")


def transformers_throughput(given: Given) -> Ready:
    """The same, several at a time."""
    return Ready(crowded(_pipeline(given)), "PyTorch, pipeline")


def _pipeline(given: Given) -> Callable[[], Any]:
    import torch
    from transformers import pipeline

    torch.set_num_threads(given["threads"])
    detect = pipeline("object-detection", model=given["model"], device="cpu")
    detect.model.float()
    return lambda: detect(given["image"], threshold=THRESHOLD)


KINDS: dict[str, Callable[[Given], Ready]] = {
    **{f"{name}-network": partial(stock_network, name) for name in ("onnxruntime", "openvino")},
    **{f"{name}-detect": partial(stock_detect, name) for name in ("onnxruntime", "openvino")},
    **{f"{name}-network": partial(transformers_network, name) for name in ("eager", "bf16", "torch.compile")},
    **{f"{name}-parts": partial(transformers_parts, name) for name in ("eager", "bf16", "torch.compile")},
    "preprocessing": transformers_preprocessing,
    "pipeline": transformers_pipeline,
    "throughput": transformers_throughput,
}
PACKAGES = ("transformers", "torch", "onnxruntime", "openvino")


# The other end of `turns.py`


def take_turns(kinds: Mapping[str, Callable[[Given], Ready]], packages: Sequence[str], words: Sequence[str]) -> None:
    """Answers turn by turn until there is nothing more to read.

    Args:
        kinds: what there is to choose from.
        packages: whose versions are told, as far as they were imported.
        words: the kind, what it is given in JSON, and perhaps "once".
    """
    kind, given, *once = words
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers

    def answer(told: dict[str, Any]) -> None:
        channel.write(f"{json.dumps(told)}\n")
        channel.flush()

    def tried(action: Callable[[], Any]) -> Any:
        """What comes of it; an answer that says what is wrong, and the end, when nothing does."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - a peer that is not there is a row left out, whatever it raised
            answer({"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]})
            sys.exit(1)

    ready = tried(lambda: kinds[kind](json.loads(given)))
    if once:
        return answer(tried(ready.turn))
    imported = [name for name in packages if {"pillow": "PIL"}.get(name, name) in sys.modules]
    answer({"runs_on": ready.runs_on, "versions": versions_of(*imported)})
    for _ in sys.stdin:
        answer(tried(ready.turn))
    return None


if __name__ == "__main__":
    take_turns(KINDS, PACKAGES, sys.argv[1:])
