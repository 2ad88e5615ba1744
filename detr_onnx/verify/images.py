"""The images that engines are compared on: generated photographs of several sizes, and the shipped scene."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageOps

from detr_onnx.image.decode import read_rgb
from detr_onnx.models.open import demo_image
from detr_onnx.verify.sample_photo import photograph

SIZES_WH = ((640, 480), (427, 640), (333, 501), (1000, 97), (61, 803))
"""A usual size, odd ones, and two so narrow that the resized image has a side of less than 128 pixels."""


@dataclass(frozen=True)
class Case:
    """Images that go through the network together."""

    name: str
    images: tuple[Image.Image, ...]


def cases() -> list[Case]:
    """Every case; the last is a padded batch of two sizes."""
    photographs = [photograph(*size, seed) for seed, size in enumerate(SIZES_WH)]
    scene = read_rgb(demo_image())
    width, height = scene.size
    scenes = {
        "scene": scene,
        "scene, mirrored": ImageOps.mirror(scene),
        "scene, left part": scene.crop((0, 0, width * 5 // 8 + 1, height)),
    }
    single = [Case(f"photograph {i.width}x{i.height}", (i,)) for i in photographs]
    single += [Case(f"{name} {i.width}x{i.height}", (i,)) for name, i in scenes.items()]
    return [*single, Case("a batch of two sizes", (scene, photographs[2]))]
