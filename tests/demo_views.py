"""Views of the demo scene: images to calibrate with where no others are."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from detr_onnx.models.open import demo_image


def write_views(directory: Path, count: int) -> None:
    """The demo scene mirrored, cropped and in other lights."""
    with Image.open(demo_image()) as opened:
        scene = opened.convert("RGB")
    for number in range(count):
        view = ImageOps.mirror(scene) if number % 2 else scene
        view = view.crop((4 * number, 2 * number, view.width - number, view.height - 3 * number))
        ImageEnhance.Brightness(view).enhance(0.8 + 0.04 * number).save(directory / f"{number:02}.png")
