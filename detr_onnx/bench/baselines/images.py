"""Decoding and resizing with Pillow and numpy, as somebody writes it by hand around an exported graph."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def decode(image: str) -> Any:
    """The RGB image in a file."""
    from PIL import Image

    return Image.open(io.BytesIO(Path(image).read_bytes())).convert("RGB")


def preprocess(image: Any, short: int, long: int) -> Any:
    """Pixels [1,3,H,W] float32 of an image: its short side resized to `short`, but the long one at most to `long`."""
    import numpy as np
    from PIL import Image

    scale = min(short / min(image.size), long / max(image.size))
    scaled = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
    return ((np.asarray(scaled, np.float32) / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]
