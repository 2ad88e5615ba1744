"""Scenes of pictograms on procedural backgrounds, with annotations in COCO's format.

    python weights/training/scenes.py --seed 2 --count 500 --out build/held-out

The rules, the same for training and measuring: 1 to 8 objects; the longer side of an object is a tenth to two thirds
of the image's shorter side; objects may overlap and may be cut by the border, but at least three fifths of each
object's pixels stay visible: other placements are tried again, and dropped after a few tries, so a crowded scene may
have fewer objects. A box encloses the visible pixels of its object.
"""

import argparse
import io
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from weights.training.natural import natural_background
from weights.training.pictograms import CATEGORIES, Category, pictogram

Pixels = NDArray[np.uint8]

MIN_VISIBLE = 0.6  # of an object's pixels; the rest may be covered or beyond the border
TRIES = 10  # placements of one object
OPAQUE = 128  # alpha from which a pixel belongs to an object


@dataclass(frozen=True)
class SceneRules:
    """Ranges of a scene's properties; values are drawn uniformly from (low, high)."""

    side_px: tuple[int, int] = (128, 512)
    max_aspect: float = 2.0
    objects: tuple[int, int] = (1, 8)
    object_side: tuple[float, float] = (0.1, 2 / 3)  # of the shorter side
    max_degrees: float = 25.0
    min_visible: float = MIN_VISIBLE
    size_hw: tuple[int, int] | None = None  # instead of a random size
    natural: float = 0.0  # share of scenes with objects whose background looks like a photograph
    empty: float = 0.0  # share of scenes that are such a background alone
    photographs: Path | None = None  # a directory of JPEG files for these backgrounds


@dataclass(frozen=True)
class Scene:
    """A JPEG and its objects: `boxes_xyxy` [n,4] in pixels, `coco_ids` [n], `areas` [n] in visible pixels.

    `owners` [H,W] has for each pixel 0 for the background, or k for the k-th object, counted from 1.
    """

    jpeg: bytes
    size_hw: tuple[int, int]
    boxes_xyxy: NDArray[np.float32]
    coco_ids: NDArray[np.int64]
    areas: NDArray[np.int64]
    owners: NDArray[np.uint8]


def scene(seed: int, index: int, rules: SceneRules = SceneRules()) -> Scene:
    """Scene number `index` of the series `seed`; every call returns the same pixels."""
    rng = np.random.default_rng([seed, index])
    height, width = _size(rng, rules)
    empty = rules.empty > 0 and rng.random() < rules.empty
    natural = empty or (rules.natural > 0 and rng.random() < rules.natural)
    make = partial(natural_background, photographs=rules.photographs) if natural else _background
    canvas = np.array(make(rng, height, width), np.float32)
    owner = np.zeros((height, width), np.int32)  # 0 background, k the k-th object
    categories: list[Category] = []
    full_px: list[int] = []
    for _ in range(0 if empty else int(rng.integers(rules.objects[0], rules.objects[1] + 1))):
        category = CATEGORIES[int(rng.integers(len(CATEGORIES)))]
        for _ in range(TRIES):
            sprite = _sprite(rng, category, rules, min(height, width))
            if _place(rng, sprite, canvas, owner, full_px, rules.min_visible):
                categories.append(category)
                break
    boxes, areas = _visible_boxes(owner, len(categories))
    ids = np.array([category.coco_id for category in categories], np.int64)
    return Scene(_photograph(rng, canvas), (height, width), boxes, ids, areas, owner.astype(np.uint8))


def _size(rng: Generator, rules: SceneRules) -> tuple[int, int]:
    """Height and width, both within `side_px`, their ratio within `max_aspect` and its inverse."""
    if rules.size_hw is not None:
        return rules.size_hw
    low, high = rules.side_px
    aspect = np.exp(rng.uniform(-1, 1) * np.log(rules.max_aspect))
    root = np.sqrt(aspect)
    short_scale = min(root, 1 / root)
    scale = rng.uniform(low / short_scale, max(high * short_scale, low / short_scale))
    return int(np.clip(round(scale / root), low, high)), int(np.clip(round(scale * root), low, high))


# Objects


def _sprite(rng: Generator, category: Category, rules: SceneRules, short_px: int) -> Pixels:
    """A pictogram [h,w,4], randomly mirrored, stretched, rotated and tinted; `object_side` gives its longer side."""
    image = pictogram(category.characters[int(rng.integers(len(category.characters)))])
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    stretched = (max(1, round(image.width * stretch)), max(1, round(image.height / stretch)))
    degrees = rng.uniform(-rules.max_degrees, rules.max_degrees)
    image = image.resize(stretched, Image.Resampling.BILINEAR)
    image = image.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    image = image.crop(image.getchannel("A").point(lambda alpha: 255 * (alpha >= OPAQUE)).getbbox())
    side = rng.uniform(*rules.object_side) * short_px
    scale = side / max(image.size)
    size = (max(2, round(image.width * scale)), max(2, round(image.height * scale)))
    sprite = np.array(image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA"))
    return _tinted(rng, sprite)


def _tinted(rng: Generator, sprite: Pixels) -> Pixels:
    """The sprite with another brightness, contrast and tint."""
    gain = rng.uniform(0.75, 1.2) * rng.uniform(0.9, 1.1, 3)
    contrast = rng.uniform(0.75, 1.2)
    colour = (sprite[..., :3].astype(np.float32) - 128) * contrast + 128
    sprite[..., :3] = np.clip(colour * gain, 0, 255)
    return sprite


def _place(
    rng: Generator,
    sprite: Pixels,
    canvas: NDArray[np.float32],
    owner: NDArray[np.int32],
    full_px: list[int],
    min_visible: float,
) -> bool:
    """Places the sprite at random and updates `canvas`, `owner` and `full_px`; False if it would hide too much."""
    height, width = owner.shape
    h, w = sprite.shape[:2]
    over = 0.3 if rng.random() < 0.2 else 0.0  # share of the object that the border may cut
    top = int(rng.integers(-int(over * h), max(1, height - h + int(over * h) + 1)))
    left = int(rng.integers(-int(over * w), max(1, width - w + int(over * w) + 1)))
    rows, columns = slice(max(0, top), min(height, top + h)), slice(max(0, left), min(width, left + w))
    part = sprite[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    solid = part[..., 3] >= OPAQUE
    own_px = int((sprite[..., 3] >= OPAQUE).sum())
    if own_px == 0 or solid.sum() < min_visible * own_px:
        return False
    covered = np.bincount(owner[rows, columns][solid], minlength=len(full_px) + 1)[1:]
    visible = np.bincount(owner.ravel(), minlength=len(full_px) + 1)[1:]
    if np.any(visible - covered < min_visible * np.array(full_px, np.float64)):
        return False
    _paint(rng, part, canvas[rows, columns])
    full_px.append(own_px)
    owner[rows, columns][solid] = len(full_px)
    return True


def _paint(rng: Generator, part: Pixels, canvas: NDArray[np.float32]) -> None:
    """Blends the sprite's visible part over the canvas, in place."""
    alpha = part[..., 3:].astype(np.float32) / 255
    canvas += (part[..., :3] - canvas) * alpha


def _visible_boxes(owner: NDArray[np.int32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes xyxy in pixels [n,4] around the visible pixels of each object, and their number [n]."""
    boxes, areas = np.zeros((count, 4), np.float32), np.zeros(count, np.int64)
    for k in range(count):
        mask = owner == k + 1
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        boxes[k] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        areas[k] = mask.sum()
    return boxes, areas


# Backgrounds


def _background(rng: Generator, height: int, width: int) -> Image.Image:
    """An image without objects: a gradient, clouds or a pattern, often with plain shapes on it."""
    kind = rng.random()
    if kind < 0.35:
        image = _clouds(rng, height, width, cells=2)
    elif kind < 0.75:
        image = _clouds(rng, height, width, cells=int(rng.integers(3, 24)))
    else:
        image = _stripes(rng, height, width)
    if rng.random() < 0.5:
        finer = _clouds(rng, height, width, cells=int(rng.integers(16, 64)))
        image = Image.blend(image, finer, float(rng.uniform(0.05, 0.3)))
    for _ in range(int(rng.integers(0, 7)) if rng.random() < 0.6 else 0):
        _draw_shape(rng, image)
    return image


def _clouds(rng: Generator, height: int, width: int, cells: int) -> Image.Image:
    """Smooth noise: `cells` random colours along the longer side, around one base colour."""
    longest = max(height, width)
    grid = (max(2, round(cells * height / longest)), max(2, round(cells * width / longest)))
    brightness = rng.normal(0, rng.uniform(5, 45), (*grid, 1))
    colours = rng.uniform(20, 235, 3) + brightness + rng.normal(0, rng.uniform(2, 22), (*grid, 3))
    small = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def _stripes(rng: Generator, height: int, width: int) -> Image.Image:
    """Two or three colours in stripes or checks of one period."""
    period = rng.uniform(0.04, 0.5) * min(height, width)
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bands = np.floor((x * np.cos(angle) + y * np.sin(angle)) / period).astype(np.int64)
    if rng.random() < 0.4:
        bands += np.floor((y * np.cos(angle) - x * np.sin(angle)) / period).astype(np.int64)
    colours = np.clip(rng.uniform(20, 235, 3) + rng.normal(0, rng.uniform(8, 60), (int(rng.integers(2, 4)), 3)), 0, 255)
    return Image.fromarray(colours.astype(np.uint8)[bands % len(colours)])


def _draw_shape(rng: Generator, image: Image.Image) -> None:
    """Draws a plain ellipse, box, triangle or line, which is not an object."""
    width, height = image.size
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    x0, y0 = rng.uniform(-0.1, 0.9) * width, rng.uniform(-0.1, 0.9) * height
    side = rng.uniform(0.05, 0.6) * min(width, height)
    x1, y1 = x0 + side, y0 + side * rng.uniform(0.3, 2.0)
    draw = ImageDraw.Draw(image)
    kind = int(rng.integers(4))
    if kind == 0:
        draw.ellipse((x0, y0, x1, y1), fill=colour)
    elif kind == 1:
        draw.rectangle((x0, y0, x1, y1), fill=colour)
    elif kind == 2:
        corners = rng.uniform(0, 1, (3, 2)) * (x1 - x0, y1 - y0) + (x0, y0)
        draw.polygon([(float(x), float(y)) for x, y in corners], fill=colour)
    else:
        draw.line((x0, y0, x1, y1), fill=colour, width=max(1, round(side * rng.uniform(0.02, 0.12))))


# The camera


def _photograph(rng: Generator, canvas: NDArray[np.float32]) -> bytes:
    """The canvas with uneven light, noise and blur, as a JPEG."""
    height, width = canvas.shape[:2]
    direction = rng.uniform(-0.25, 0.25, 2)
    ramp_y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(direction[0])
    ramp_x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(direction[1])
    light = np.float32(rng.uniform(0.65, 1.15)) * (1 + ramp_y + ramp_x)
    lit = canvas * light[..., None]
    if rng.random() < 0.6:
        lit += np.float32(rng.uniform(1, 9)) * rng.standard_normal(canvas.shape, np.float32)
    image = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.001, 0.004) * min(height, width)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
    return buffer.getvalue()


# COCO's format


def coco_ground_truth(scenes: list[Scene]) -> dict[str, list[dict[str, object]]]:
    """`images`, `annotations`, `categories` as in COCO's instances files; image ids start at 1."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for image_id, scene in enumerate(scenes, start=1):
        height, width = scene.size_hw
        images.append({"id": image_id, "file_name": file_name(image_id), "height": height, "width": width})
        for box, coco_id, area in zip(
            scene.boxes_xyxy.tolist(), scene.coco_ids.tolist(), scene.areas.tolist(), strict=True
        ):
            x0, y0, x1, y1 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": coco_id,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": area,
                    "iscrowd": 0,
                }
            )
    categories: list[dict[str, object]] = [{"id": category.coco_id, "name": category.name} for category in CATEGORIES]
    return {"images": images, "annotations": annotations, "categories": categories}


def file_name(image_id: int) -> str:
    """`000000000017.jpg` for 17, as COCO names its files."""
    return f"{image_id:012d}.jpg"


def write_dataset(seed: int, count: int, directory: Path) -> None:
    """`directory/images/*.jpg` and `directory/annotations.json` of the first `count` scenes of the series `seed`."""
    images = directory / "images"
    images.mkdir(parents=True, exist_ok=True)
    scenes = [scene(seed, index) for index in range(count)]
    for image_id, one in enumerate(scenes, start=1):
        (images / file_name(image_id)).write_bytes(one.jpeg)
    (directory / "annotations.json").write_text(json.dumps(coco_ground_truth(scenes)))


def main() -> None:
    """Writes the scenes and their annotations."""
    parser = argparse.ArgumentParser(description="Writes synthetic scenes and annotations in COCO's format.")
    parser.add_argument("--seed", type=int, required=True, help="the series; 2 is the held-out one")
    parser.add_argument("--count", type=int, default=500, help="scenes (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="a directory for images/ and annotations.json")
    arguments = parser.parse_args()
    write_dataset(arguments.seed, arguments.count, arguments.out)
    print(f"{arguments.count} scenes of seed {arguments.seed} in {arguments.out}")


if __name__ == "__main__":
    main()
