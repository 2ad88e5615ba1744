"""Counts what a model finds in photographs that have no pictogram: every detection is false."""

from pathlib import Path

import numpy as np
import torch

from weights.training.model import DemoDetr
from weights.training.natural import opened
from weights.training.shards import NO_OBJECT, SLOTS, Example, Phase, batch, resized

THRESHOLD = 0.5


@torch.inference_mode()
def false_per_photograph(model: DemoDetr, photographs: tuple[Path, ...], phase: Phase) -> float:
    """The mean number of detections above 0.5 in a photograph, at the size of the phase."""
    found = 0
    for path in photographs:
        pixels = resized(opened(path), phase.short_px, phase.long_px)
        nothing = Example(pixels, np.zeros((SLOTS, 4), np.float32), np.full(SLOTS, NO_OBJECT, np.int64))
        inputs, mask, _ = batch([nothing], None)
        scores = model(inputs, mask, 1).logits[-1, 0].softmax(-1)[:, :-1].amax(-1)
        found += int((scores > THRESHOLD).sum())
    return round(found / len(photographs), 3)
