"""This package as contenders: `python -m detr_onnx.bench.ours KIND JSON`.

`interleave.py` starts them. `baselines/` has the contenders that they are compared with, the turns and the protocol.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from detr_onnx.bench.baselines.protocol import take_turns
from detr_onnx.bench.baselines.turns import (
    DECODE,
    DETECT,
    NETWORK,
    PIXELS,
    POSTPROCESS,
    TOTAL,
    Options,
    Ready,
    concurrent,
    in_parts,
    repeated,
    threshold_for,
    timed,
)
from detr_onnx.detector import Detector
from detr_onnx.engines.providers import parse_providers

PACKAGES = ("numpy", "pillow", "onnxruntime", "openvino")


def open_detector(options: Options) -> Detector:
    """The detector of a contender. numpy takes its threads from the environment."""
    return Detector(
        options["model"],
        engine=options["engine"],
        providers=parse_providers(options["providers"]) if options.get("providers") else None,
        precision=options.get("precision"),
        threads=None if options["engine"] == "numpy" else options["threads"],
        shortest_edge=options.get("size"),
        config=options.get("config"),
        offline=options.get("offline", False),
        cache_dir=options.get("cache_dir"),
    )


def detect(options: Options) -> Ready:
    """A warm `Detector`, from a file to its detections, part by part."""
    from detr_onnx.image.decode import read_rgb

    detector, path = open_detector(options), Path(options["image"])
    sizes: list[Any] = []

    def pixels(image: Any) -> Any:
        values, mask, sizes_hw = detector.preprocess([image])
        sizes[:] = [sizes_hw]
        return values, mask

    steps: list[tuple[str, Callable[[Any], Any]]] = [
        (DECODE, lambda _: read_rgb(path)),
        (PIXELS, pixels),
        (NETWORK, lambda inputs: detector.network(*inputs)),
        (POSTPROCESS, lambda outputs: detector.postprocess(*outputs, *sizes)),
    ]
    return Ready(in_parts(DETECT, steps), detector.runtime)


def throughput(options: Options) -> Ready:
    """One warm `Detector`, called from one, two and four threads."""
    detector, path = open_detector(options), Path(options["image"])
    return Ready(concurrent(lambda: detector(path)), detector.runtime)


def preprocessing(options: Options) -> Ready:
    """From an encoded image to the pixels of the network, part by part."""
    from PIL import Image

    from detr_onnx.image.decode import read_rgb
    from detr_onnx.image.preprocess import to_pixels
    from detr_onnx.models.metadata import Description

    rules, data = Description.of(Path(options["model"])).read_preprocessing(), Path(options["image"]).read_bytes()

    def scaled(image: Image.Image) -> Image.Image:
        height, width = rules.resized_hw(image.height, image.width)
        return image.resize((width, height), Image.Resampling.BILINEAR)

    steps: list[tuple[str, Callable[[Any], Any]]] = [
        (DECODE, lambda _: read_rgb(data)),
        ("resize", scaled),
        ("normalise", lambda image: to_pixels(image, rules)),  # already resized
    ]
    return Ready(repeated(in_parts(TOTAL, steps)), "Pillow, numpy")


def network(options: Options) -> Ready:
    """The network alone, on pixels from a file, with the mask that `Detector` would pass."""
    import numpy as np

    detector, pixels = open_detector(options), np.load(options["pixels"])
    mask = np.ones((len(pixels), *pixels.shape[2:]), np.bool_)
    return Ready(timed(NETWORK, lambda: detector.network(pixels, mask)), detector.runtime)


def panoptic(options: Options) -> Ready:
    """From a file to its panoptic segments, once for each number of kept queries in `kept`; these are the parts."""
    import numpy as np

    from detr_onnx.detections import softmax

    detector, path = open_detector(options), Path(options["image"])
    pixels, mask, _ = detector.preprocess([path])
    scores = softmax(detector.network(pixels, mask)[0][0])[:, :-1].max(axis=-1)
    thresholds = {str(kept): threshold_for(kept, scores.astype(np.float64).tolist()) for kept in options["kept"]}

    def turn() -> dict[str, float]:
        parts: dict[str, float] = {}
        for kept, threshold in thresholds.items():
            parts |= timed(kept, partial(detector.panoptic, path, threshold))()
        return parts

    return Ready(turn, detector.runtime)


KINDS: dict[str, Callable[[Options], Ready]] = {
    "detect": detect,
    "throughput": throughput,
    "preprocessing": preprocessing,
    "network": network,
    "panoptic": panoptic,
}

if __name__ == "__main__":
    take_turns(KINDS, PACKAGES, sys.argv[1:])
