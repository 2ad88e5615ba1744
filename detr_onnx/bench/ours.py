"""Ours, each a process of its own: `python -m detr_onnx.bench.ours KIND JSON`, as `peers.py` has it for others.

`turns.py` is the other end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detr_onnx.bench.baselines import (
    DECODE,
    DETECT,
    NETWORK,
    PIXELS,
    POSTPROCESS,
    TOTAL,
    Given,
    Ready,
    crowded,
    in_parts,
    repeated,
    take_turns,
    timed,
)
from detr_onnx.detector import Detector
from detr_onnx.engines.providers import parse_providers

PACKAGES = ("numpy", "pillow", "onnxruntime", "openvino")


def open_detector(given: Given) -> Detector:
    """The detector that a contender is told to be; numpy's threads are told by the environment."""
    return Detector(
        given["model"],
        engine=given["engine"],
        providers=parse_providers(given["providers"]) if given.get("providers") else None,
        precision=given.get("precision"),
        threads=None if given["engine"] == "numpy" else given["threads"],
        shortest_edge=given.get("size"),
        config=given.get("config"),
        offline=given.get("offline", False),
        cache_dir=given.get("cache_dir"),
    )


def detect(given: Given) -> Ready:
    """A warm `Detector`, from a file to its detections, part by part."""
    from detr_onnx.image.preprocess import read_rgb

    detector, path = open_detector(given), Path(given["image"])
    sizes: list[Any] = []

    def pixels(image: Any) -> Any:
        values, mask, sizes_hw = detector.preprocess([image])
        sizes[:] = [sizes_hw]
        return values, mask

    steps: list[tuple[str, Callable[[Any], Any]]] = [
        (DECODE, lambda _: read_rgb(path)),
        (PIXELS, pixels),
        (NETWORK, lambda given: detector.network(*given)),
        (POSTPROCESS, lambda answer: detector.postprocess(*answer, *sizes)),
    ]
    return Ready(in_parts(DETECT, steps), detector.runtime)


def throughput(given: Given) -> Ready:
    """One warm `Detector`, asked by one, two and four threads."""
    detector, path = open_detector(given), Path(given["image"])
    return Ready(crowded(lambda: detector(path)), detector.runtime)


def preprocessing(given: Given) -> Ready:
    """From the bytes of an image to the pixels of the network, by part."""
    from PIL import Image

    from detr_onnx.image.preprocess import read_rgb, to_pixels
    from detr_onnx.models.metadata import Description

    rules, data = Description.of(Path(given["model"])).read_preprocessing(), Path(given["image"]).read_bytes()

    def scaled(image: Image.Image) -> Image.Image:
        height, width = rules.resized_hw(image.height, image.width)
        return image.resize((width, height), Image.Resampling.BILINEAR)

    steps: list[tuple[str, Callable[[Any], Any]]] = [
        (DECODE, lambda _: read_rgb(data)),
        ("resize", scaled),
        ("normalise", lambda image: to_pixels(image, rules)),  # has its size already
    ]
    return Ready(repeated(in_parts(TOTAL, steps)), "Pillow, numpy")


def network(given: Given) -> Ready:
    """The network alone, on pixels from a file, with the mask that `Detector` gives it."""
    import numpy as np

    detector, pixels = open_detector(given), np.load(given["pixels"])
    mask = np.ones((len(pixels), *pixels.shape[2:]), np.bool_)
    return Ready(timed(NETWORK, lambda: detector.network(pixels, mask)), detector.runtime)


KINDS: dict[str, Callable[[Given], Ready]] = {
    "detect": detect,
    "throughput": throughput,
    "preprocessing": preprocessing,
    "network": network,
}

if __name__ == "__main__":
    take_turns(KINDS, PACKAGES, sys.argv[1:])
