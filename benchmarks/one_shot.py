"""A photograph to detections in one process, as somebody without this package would write it: the memory table's peers.

    python -m benchmarks.one_shot transformers MODEL_DIR PHOTOGRAPH THREADS    torch, by the pipeline of transformers
    python -m benchmarks.one_shot onnxruntime GRAPH PHOTOGRAPH THREADS         a graph, numpy and Pillow, by hand

The second is the leanest there is: no image processor, the size rule for this one picture, nothing but a table of
scores and boxes comes out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

THRESHOLD = 0.5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORT, LONG = 800, 1333


def by_transformers(model: str, photograph: str, threads: int) -> Any:
    """The detections of the pipeline."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    return pipeline("object-detection", model=model, device="cpu")(photograph, threshold=THRESHOLD)


def by_onnxruntime(graph: str, photograph: str, threads: int) -> Any:
    """Rows of score, class and box, cxcywh in 0..1."""
    import numpy as np
    import onnxruntime
    from PIL import Image

    picture = Image.open(photograph).convert("RGB")
    scale = min(SHORT / min(picture.size), LONG / max(picture.size))
    scaled = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.BILINEAR)
    pixels = ((np.asarray(scaled, np.float32) / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    logits, boxes = session.run(["logits", "pred_boxes"], {"pixel_values": pixels})
    weights = np.exp(logits[0] - logits[0].max(axis=-1, keepdims=True))
    scores = (weights / weights.sum(axis=-1, keepdims=True))[:, :-1]
    kept = scores.max(axis=-1) > THRESHOLD
    return list(zip(scores.max(axis=-1)[kept], scores.argmax(axis=-1)[kept], boxes[0][kept], strict=True))


WAYS = {"transformers": by_transformers, "onnxruntime": by_onnxruntime}

if __name__ == "__main__":
    way, subject, photograph, threads = sys.argv[1:]
    print(WAYS[way](str(Path(subject)), photograph, int(threads)))
