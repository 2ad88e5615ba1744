"""Boxes and names drawn on an image, and the image written to a file."""

from __future__ import annotations

import colorsys
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detr_onnx.atomic import write_atomically
from detr_onnx.detections import Detections
from detr_onnx.errors import OutputError

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
Colour = tuple[int, int, int]  # red, green, blue, 0..255

GOLDEN_RATIO = (5**0.5 - 1) / 2  # steps of this part of the circle keep away from all earlier ones
TYPE_SHARE = 0.027  # height of the type for the root of the image's area: 15 pixels at 640x480
SMALLEST_TYPE_PX = 11  # legible; 300x200 would get 7
JPEG_QUALITY = 92


def annotate(image: Image.Image, detections: Detections) -> Image.Image:
    """A copy of the upright image, mode RGB, with a box and a label such as "cat 0.99" for each detection.

    Lines and type grow with the image. What scores best is drawn last, on top, and its label takes the best place.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    type_px = max(SMALLEST_TYPE_PX, round(TYPE_SHARE * (drawn.width * drawn.height) ** 0.5))
    best_first = detections.by_score()
    boxes = [_inside(xyxy, drawn) for xyxy in best_first.xyxy]
    colours = [colour_of(int(class_id)) for class_id in best_first.class_ids]
    for box, colour in reversed([*zip(boxes, colours, strict=True)]):
        pen.rectangle(box, outline=colour, width=max(2, round(type_px / 7)))
    _label(pen, best_first, boxes, colours, type_px)
    return drawn


def colour_of(class_id: int) -> Colour:
    """The colour of a class: always the same, and far in hue from those of the neighbouring ids."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * GOLDEN_RATIO % 1, 0.8, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever stands out more on the colour.

    Source: WCAG 2.1, relative luminance; 0.179 is where the contrast to black and to white is the same.
    """
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def _inside(xyxy: Any, image: Image.Image) -> Rectangle:
    """The part of a box that lies in the image, in whole pixels."""
    last = np.array([image.width - 1, image.height - 1] * 2)
    left, top, right, bottom = np.clip(np.nan_to_num(xyxy), 0, last).round().tolist()
    return left, top, max(left, right), max(top, bottom)


def _label(
    pen: ImageDraw.ImageDraw, best_first: Detections, boxes: list[Rectangle], colours: list[Colour], type_px: int
) -> None:
    """Writes each detection's label on a plate of its colour; where plates must overlap, the better one is on top."""
    font = ImageFont.load_default(type_px)
    margin = round(type_px / 5)
    texts = [f"{detection.label} {detection.score:.2f}" for detection in best_first]
    sizes = [(round(pen.textlength(text, font)) + 2 * margin, type_px + 2 * margin) for text in texts]
    plates = _plates(boxes, sizes, pen.im.size)
    for text, plate, colour in reversed([*zip(texts, plates, colours, strict=True)]):
        pen.rectangle(plate, fill=colour)
        left_middle = plate[0] + margin, (plate[1] + plate[3]) / 2
        pen.text(left_middle, text, fill=ink_on(colour), font=font, anchor="lm")


def _plates(boxes: list[Rectangle], sizes: list[tuple[int, int]], image_wh: tuple[int, int]) -> list[Rectangle]:
    """A plate of each size (width, height) for each box, at the first of its places that no earlier plate took."""
    taken: list[Rectangle] = []
    for box, (width, height) in zip(boxes, sizes, strict=True):
        places = [*_places(box, width, height, image_wh)]
        free = (place for place in places if not any(_overlap(place, other) for other in taken))
        taken.append(next(free, places[0]))
    return taken


def _places(box: Rectangle, width: int, height: int, image_wh: tuple[int, int]) -> Iterator[Rectangle]:
    """Where a plate may lie, best first: on the box, in it, below it, at its left or its right; always in the image.

    An image that is smaller than the plate gets the beginning of it.
    """
    left, top, right, bottom = box
    corners = [
        *((left, top - height), (left, top), (right - width, top - height), (right - width, top)),
        *((left, bottom), (left, bottom - height), (right - width, bottom), (right - width, bottom - height)),
    ]
    for wanted_x, wanted_y in corners:
        x = max(0, min(wanted_x, image_wh[0] - width))
        y = max(0, min(wanted_y, image_wh[1] - height))
        yield x, y, x + width - 1, y + height - 1


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Writes the image in the format of the path's suffix: all of it or, with an OutputError, nothing."""
    target = Path(path)
    form = _format_of(target)
    encoded = io.BytesIO()  # Pillow's JPEG encoder ignores short writes to a file
    try:
        image.save(encoded, form, **({"quality": JPEG_QUALITY} if form in ("JPEG", "WEBP") else {}))
        write_atomically(target, encoded.getvalue())
    except (OSError, ValueError) as error:
        found, remedy = _trouble(error, target)
        raise OutputError(f"cannot write {path}", found=found, remedy=remedy) from error


def _format_of(path: Path) -> str:
    """Pillow's name of the format that the suffix stands for."""
    suffix = path.suffix.lower()
    Image.preinit()
    form = Image.EXTENSION.get(suffix) or Image.registered_extensions().get(suffix)
    if form is None or form not in Image.SAVE:
        raise OutputError(
            f"cannot write {path}",
            found=f"the suffix {suffix!r}" if suffix else "no suffix",
            expected=".jpg, .png, .webp or another format of images",
        )
    return form


def _trouble(error: Exception, path: Path) -> tuple[str, str | None]:
    """What stood in the way of writing, and what to do."""
    if isinstance(error, FileNotFoundError):
        return f"no directory {path.parent}", "create it first"
    if isinstance(error, IsADirectoryError):
        return "a directory", "name a file in it"
    if isinstance(error, PermissionError):
        return "no permission", "choose a directory that this user may write to"
    return getattr(error, "strerror", None) or str(error), None
