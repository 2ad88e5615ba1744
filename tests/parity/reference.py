"""Outputs of the torch model of transformers: `python -m tests.parity.reference MODEL_DIR INPUTS.npz OUTPUTS.npz`.

For each pair of arrays `NAME.pixels`, `NAME.mask` of the input it writes `NAME.logits` and `NAME.boxes`.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DetrForObjectDetection


def reference_outputs(model: str, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Logits and boxes of every case."""
    network = DetrForObjectDetection.from_pretrained(model).eval()
    outputs: dict[str, NDArray[np.float32]] = {}
    for name in [key.removesuffix(".pixels") for key in inputs if key.endswith(".pixels")]:
        pixels, mask = (torch.from_numpy(inputs[f"{name}.{part}"]) for part in ("pixels", "mask"))
        with torch.inference_mode():
            output = network(pixel_values=pixels, pixel_mask=mask.to(torch.int64))
        outputs |= {f"{name}.logits": output.logits.numpy(), f"{name}.boxes": output.pred_boxes.numpy()}
    return outputs


if __name__ == "__main__":
    model, source, target = sys.argv[1:]
    np.savez(target, **reference_outputs(model, dict(np.load(source))))
