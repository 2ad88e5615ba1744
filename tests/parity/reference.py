"""The torch model of transformers' answers: `python -m tests.parity.reference MODEL_DIR INPUTS.npz ANSWERS.npz`.

For every pair of arrays `NAME.pixels`, `NAME.mask` that comes in, `NAME.logits` and `NAME.boxes` go out.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DetrForObjectDetection


def answers(model: str, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Logits and boxes of every case."""
    network = DetrForObjectDetection.from_pretrained(model).eval()
    found: dict[str, NDArray[np.float32]] = {}
    for name in [key.removesuffix(".pixels") for key in inputs if key.endswith(".pixels")]:
        pixels, mask = (torch.from_numpy(inputs[f"{name}.{part}"]) for part in ("pixels", "mask"))
        with torch.inference_mode():
            answer = network(pixel_values=pixels, pixel_mask=mask.to(torch.int64))
        found |= {f"{name}.logits": answer.logits.numpy(), f"{name}.boxes": answer.pred_boxes.numpy()}
    return found


if __name__ == "__main__":
    model, source, target = sys.argv[1:]
    np.savez(target, **answers(model, dict(np.load(source))))
