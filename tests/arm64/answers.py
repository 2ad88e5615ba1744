"""Detections in the demo scene by each engine and kind of file, as JSON; the same program on every processor.

    python -m tests.arm64.answers FILES ANSWERS.json CASE …

FILES is the directory that `files.py` wrote. Cases that ANSWERS.json already has are kept.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from detr_onnx import Detections, Detector
from detr_onnx.defaults import DEFAULT_THRESHOLD
from detr_onnx.image.decode import read_rgb
from detr_onnx.models.open import demo_image
from tests.arm64.files import CHECKPOINT, END_TO_END, INT8, ORT

Answer = list[dict[str, Any]]
SERVER = "http://127.0.0.1:{port}/client/v4/accounts/any/ai/run/@cf/facebook/detr-resnet-50"
STARTS_WITHIN_S, ANSWERS_WITHIN_S = 120.0, 300.0  # of an emulated server


def detected(model: str | Path, engine: str = "onnxruntime", precision: str | None = None) -> Answer:
    """The API's form: best first, boxes in whole pixels."""
    return Detector(model, engine=engine, precision=precision)(demo_image()).to_dicts()


def end_to_end(files: Path) -> Answer:
    """The same from a graph that takes the image itself."""
    session = onnxruntime.InferenceSession(files / END_TO_END, providers=["CPUExecutionProvider"])
    image = np.asarray(read_rgb(demo_image()), np.uint8)
    feeds = {"image": image, "threshold": np.full(1, DEFAULT_THRESHOLD, np.float32)}
    scores, ids, boxes = session.run(["scores", "labels", "boxes"], feeds)
    names = tuple(json.loads(session.get_modelmeta().custom_metadata_map["detr_onnx.labels"]))
    return Detections(scores, ids, boxes, names).to_dicts()


def served(port: int) -> Answer:
    """The answer of the server at a port of this machine, above the threshold of the other cases."""
    request = urllib.request.Request(SERVER.format(port=port), data=demo_image().read_bytes(), method="POST")
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=ANSWERS_WITHIN_S) as response:
                result: Answer = json.load(response)["result"]
            return [detection for detection in result if detection["score"] > DEFAULT_THRESHOLD]
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


CASES: dict[str, Callable[[Path], Answer]] = {
    "numpy": lambda files: detected("demo", "numpy"),
    "onnxruntime": lambda files: detected("demo"),
    "int8": lambda files: detected(files / INT8),
    "ort": lambda files: detected(files / ORT),
    "end-to-end": end_to_end,
    "bf16": lambda files: detected(files / CHECKPOINT, precision="bf16"),
}


def answer(case: str, files: Path) -> Answer:
    """Of a case by name; "server:PORT" asks a server."""
    name, _, port = case.partition(":")
    return served(int(port)) if name == "server" else CASES[name](files)


def main() -> None:
    files, written, *cases = sys.argv[1:]
    known = json.loads(Path(written).read_text(encoding="utf-8")) if Path(written).exists() else {}
    for case in cases:
        start = time.monotonic()
        known[case.partition(":")[0]] = answer(case, Path(files))
        print(f"{case}: {time.monotonic() - start:.0f} s", flush=True)
        Path(written).write_text(json.dumps(known), encoding="utf-8")


if __name__ == "__main__":
    main()
