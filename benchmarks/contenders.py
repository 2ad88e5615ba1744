"""The contenders: each a way from the same input to an answer, in a process and an environment of its own.

A contender is started as `python -m benchmarks.contenders KIND INPUT SUBJECT THREADS`, says in one line of JSON that it
is ready and which versions it runs on, and then, for every line it reads, takes one turn and answers with the seconds
of its parts. `turns.py` is the other end. Heavy imports are inside the functions: every environment has only its own.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.setting import versions_of

Turn = Callable[[], dict[str, float]]
"""One turn: part -> seconds."""

SHORT_WARM_UP, SHORT_RUNS = 3, 20
NETWORK, DETECT, TOTAL = "network", "detect", "total"


def timed(part: str, action: Callable[[], Any]) -> Turn:
    """A turn that is one action."""

    def turn() -> dict[str, float]:
        begin = time.perf_counter()
        action()
        return {part: time.perf_counter() - begin}

    return turn


def repeated(turn: Turn) -> Turn:
    """A turn that takes a short one several times and answers with the median of each part.

    A single pass of some milliseconds after seconds of the others' work would tell of cold caches and little else.
    """

    def turns() -> dict[str, float]:
        taken = [turn() for _ in range(SHORT_WARM_UP + SHORT_RUNS)][SHORT_WARM_UP:]
        return {part: statistics.median(one[part] for one in taken) for part in taken[0]}

    return turns


# ours


def ours_onnxruntime(graph: Path, pixels: Path, threads: int) -> Turn:
    """Our engine on a graph of ours."""
    from detr_onnx.engines.onnxruntime import onnxruntime_engine

    return _with_mask(onnxruntime_engine(graph, threads=threads).network, pixels)


def ours_openvino(graph: Path, pixels: Path, threads: int) -> Turn:
    """Our OpenVINO engine, in the precision it takes by itself, on a graph of ours."""
    from detr_onnx.engines.openvino import openvino_engine

    return _with_mask(openvino_engine(graph, threads=threads).network, pixels)


def _with_mask(network: Callable[[Any, Any], Any], pixels: Path) -> Turn:
    """The network with the mask that `Detector` gives it."""
    import numpy as np

    x = np.load(pixels)
    mask = np.ones((len(x), *x.shape[2:]), np.bool_)
    return timed(NETWORK, lambda: network(x, mask))


def ours_numpy(model: Path, pixels: Path, threads: int) -> Turn:
    """Our numpy engine; its threads are those of numpy's BLAS, told by the environment."""
    import numpy as np

    from detr_onnx.engines.numpy import numpy_engine
    from detr_onnx.network.checkpoint import load_checkpoint

    network, x = numpy_engine(load_checkpoint(model)).network, np.load(pixels)
    return timed(NETWORK, lambda: network(x, None))


def ours_preprocessing(model: Path, photograph: Path, threads: int) -> Turn:
    """From the bytes of a JPEG to the pixels of the network, by part."""
    from PIL import Image

    from detr_onnx.description import Description
    from detr_onnx.image import read_rgb, to_pixels

    preprocessing, data = Description.of(model).read_preprocessing(), photograph.read_bytes()

    def turn() -> dict[str, float]:
        begin = time.perf_counter()
        picture = read_rgb(data)
        decoded = time.perf_counter()
        height, width = preprocessing.resized_hw(picture.height, picture.width)
        scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
        resized = time.perf_counter()
        to_pixels(scaled, preprocessing)  # has its size already: what is left is to normalise it
        end = time.perf_counter()
        parts = {"decode": decoded - begin, "resize": resized - decoded, "normalise": end - resized}
        return parts | {TOTAL: end - begin}

    return repeated(turn)


def ours_detect(engine: str, model: Path, photograph: Path, threads: int) -> Turn:
    """A warm `Detector`, from a file to detections; numpy's threads are told by the environment."""
    from detr_onnx import Detector

    detector = Detector(model, engine=engine, threads=None if engine == "numpy" else threads)
    return timed(DETECT, lambda: detector(photograph))


# peers


def stock_onnxruntime(graph: Path, pixels: Path, threads: int) -> Turn:
    """Another exporter's graph in a plain session of ONNX Runtime."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    x = np.load(pixels)
    feeds = {"pixel_values": x}
    for value in session.get_inputs()[1:]:  # a mask, where the exporter kept one
        sizes = [
            size if isinstance(size, int) else known for size, known in zip(value.shape, x[:, 0].shape, strict=True)
        ]
        feeds[value.name] = np.ones(sizes, np.int64)
    return timed(NETWORK, lambda: session.run(["logits", "pred_boxes"], feeds))


def stock_openvino(graph: Path, pixels: Path, threads: int) -> Turn:
    """Another exporter's graph in OpenVINO, in the precision it takes by itself."""
    import numpy as np
    import openvino

    x = np.load(pixels)
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(graph), "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    )
    feeds = {"pixel_values": x}
    if len(compiled.inputs) > 1:  # a mask, where the exporter kept one
        feeds["pixel_mask"] = np.ones((len(x), *x.shape[2:]), np.int64)
    request = compiled.create_infer_request()
    return timed(NETWORK, lambda: request.infer(feeds, share_inputs=True))


def transformers_compiled(model: Path, pixels: Path, threads: int) -> Turn:
    """The torch model of transformers through torch.compile, float32."""
    import torch

    return _transformers(model, pixels, threads, torch.compile)


def transformers_network(model: Path, pixels: Path, threads: int) -> Turn:
    """The torch model of transformers, eager, float32."""
    return _transformers(model, pixels, threads, lambda network: network)


def _transformers(model: Path, pixels: Path, threads: int, made_fast: Callable[[Any], Any]) -> Turn:
    import numpy as np
    import torch
    from transformers import DetrForObjectDetection

    torch.set_num_threads(threads)
    network, x = made_fast(DetrForObjectDetection.from_pretrained(model).eval()), torch.from_numpy(np.load(pixels))
    mask = torch.ones((len(x), *x.shape[2:]), dtype=torch.int64)

    def run() -> None:
        with torch.inference_mode():
            network(pixel_values=x, pixel_mask=mask)

    return timed(NETWORK, run)


def transformers_preprocessing(model: Path, photograph: Path, threads: int) -> Turn:
    """The image processor that transformers takes by itself, from the bytes of a JPEG to a tensor."""
    import io

    import torch
    from PIL import Image
    from transformers import AutoImageProcessor

    torch.set_num_threads(threads)
    processor, data = AutoImageProcessor.from_pretrained(model), photograph.read_bytes()

    def turn() -> dict[str, float]:
        begin = time.perf_counter()
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        decoded = time.perf_counter()
        processor(images=picture, return_tensors="pt")
        end = time.perf_counter()
        return {"decode": decoded - begin, "processor": end - decoded, TOTAL: end - begin}

    return repeated(turn)


def transformers_detect(model: Path, photograph: Path, threads: int) -> Turn:
    """A warm `pipeline` of transformers on torch, eager, float32, from a file to detections."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    detect = pipeline("object-detection", model=str(model), device="cpu")
    return timed(DETECT, lambda: detect(str(photograph), threshold=0.5))


KINDS: dict[str, Callable[[Path, Path, int], Turn]] = {
    "ours-onnxruntime": ours_onnxruntime,
    "ours-openvino": ours_openvino,
    "ours-numpy": ours_numpy,
    "ours-preprocessing": ours_preprocessing,
    "ours-detect-onnxruntime": partial(ours_detect, "onnxruntime"),
    "ours-detect-openvino": partial(ours_detect, "openvino"),
    "ours-detect-numpy": partial(ours_detect, "numpy"),
    "stock-onnxruntime": stock_onnxruntime,
    "stock-openvino": stock_openvino,
    "transformers-compiled": transformers_compiled,
    "transformers-network": transformers_network,
    "transformers-preprocessing": transformers_preprocessing,
    "transformers-detect": transformers_detect,
}
PACKAGES = {
    "ours": ("numpy", "pillow", "onnxruntime", "openvino"),
    "stock": ("onnxruntime", "openvino"),
    "transformers": ("transformers", "torch"),
}


def main() -> None:
    """Answers turn by turn until there is nothing more to read."""
    kind, subject, source, threads = sys.argv[1:]
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers

    def answer(told: dict[str, Any]) -> None:
        channel.write(f"{json.dumps(told)}\n")
        channel.flush()

    try:
        turn = KINDS[kind](Path(subject), Path(source), int(threads))
    except Exception as error:  # noqa: BLE001 - a peer that is not there is a row left out, whatever it raised
        return answer({"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]})
    answer({"versions": versions_of(*PACKAGES[kind.partition("-")[0]])})
    for _ in sys.stdin:
        answer(turn())
    return None


if __name__ == "__main__":
    main()
