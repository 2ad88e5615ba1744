"""Draws boxes and labels on an image, and saves images."""

from __future__ import annotations

import colorsys
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from detr_onnx.atomic import write_atomically
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.image import fonts
from detr_onnx.image.limits import DECODER_ERRORS
from detr_onnx.paths import is_directory
from detr_onnx.text import printable, reason_of

if TYPE_CHECKING:
    from detr_onnx.detections import Detection, Detections

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
Colour = tuple[int, int, int]  # red, green, blue, 0..255

GOLDEN_RATIO = (5**0.5 - 1) / 2  # hues in steps of this share of the circle stay far from all earlier ones
FONT_SHARE = 0.027  # of the square root of the image's area: 15 pixels at 640x480
SMALLEST_FONT_PX = 11  # legible; 300x200 would get 7
LONGEST_LABEL = 40  # characters
JPEG_QUALITY = 92
MASK_OPACITY = 0.5


def annotate(image: Image.Image, detections: Detections) -> Image.Image:
    """Draws a box and a label such as "cat 0.99" for each detection on a copy of the image, and its mask if it has one.

    Lines and fonts grow with the image. The best detection is drawn on top, and its label takes the best position. The
    colour is that of the class; with masks each object has its own, so that neighbours can be told apart. Long labels
    are cut, and an image that is too small for a label gets boxes only.

    Args:
        image: an upright image, as `read_rgb` returns it.
        detections: boxes in pixels of this image.

    Returns:
        A new image in mode RGB.

    Raises:
        UsageError: the masks belong to an image of another size.
    """
    best_first = detections.by_score()
    masks = best_first.masks
    if masks is not None and masks.shape[1:] != (image.height, image.width):
        raise UsageError(
            "the detections do not belong to this image",
            found="an image of {}x{} pixels".format(*image.size),
            expected="{2}x{1}, the size of the masks".format(*masks.shape),
            remedy="pass the image that they were found in",
        )
    colours = [
        colour_of(int(class_id) if masks is None else number) for number, class_id in enumerate(best_first.class_ids)
    ]
    drawn = image.convert("RGB") if masks is None else _tinted(image, masks, colours)
    pen = ImageDraw.Draw(drawn)
    font_px = max(SMALLEST_FONT_PX, round(FONT_SHARE * (drawn.width * drawn.height) ** 0.5))
    boxes = [_inside(xyxy, drawn) for xyxy in best_first.xyxy]
    line_px = max(1, min(round(font_px / 7), min(drawn.size) // 32))
    for box, colour in reversed([*zip(boxes, colours, strict=True)]):
        pen.rectangle(box, outline=colour, width=line_px)
    _label(pen, best_first, boxes, colours, font_px)
    return drawn


def _tinted(image: Image.Image, masks: NDArray[np.bool_], colours: list[Colour]) -> Image.Image:
    """The image with each mask in its colour; where masks overlap, the first is on top."""
    pixels = np.array(image.convert("RGB"))
    for mask, colour in reversed([*zip(masks, colours, strict=True)]):
        pixels[mask] = (MASK_OPACITY * np.array(colour) + (1 - MASK_OPACITY) * pixels[mask]).astype(np.uint8)
    return Image.fromarray(pixels)


def colour_of(class_id: int) -> Colour:
    """The colour of a class. It is always the same, and its hue is far from those of neighbouring ids."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * GOLDEN_RATIO % 1, 0.8, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_colour_on(colour: Colour) -> Colour:
    """Black or white, whichever has more contrast with the colour.

    Source: WCAG 2.1, relative luminance; at 0.179 black and white have the same contrast.
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
    pen: ImageDraw.ImageDraw, best_first: Detections, boxes: list[Rectangle], colours: list[Colour], font_px: int
) -> None:
    """Draws each label on a plate of its colour. Where plates overlap, that of the better detection is on top."""
    margin = round(font_px / 5)
    width, height = pen.im.size
    if font_px + 2 * margin > height:
        return
    texts = [_label_of(detection, font_px, width - 2 * margin) for detection in best_first]
    sizes = [(round(fonts.width_of(text, font_px)) + 2 * margin, font_px + 2 * margin) for text in texts]
    plates = _plates(boxes, sizes, pen.im.size)
    for text, plate, colour in reversed([*zip(texts, plates, colours, strict=True)]):
        if text:
            pen.rectangle(plate, fill=colour)
            left_middle = plate[0] + margin, (plate[1] + plate[3]) / 2
            fonts.write(pen, left_middle, text, text_colour_on(colour), font_px, "lm")


def _label_of(detection: Detection, font_px: int, width: int) -> str:
    """`cat 0.99`, or `#3 cat 0.99` for the third object that is tracked; its name is cut to this width in pixels.

    "" if there is no room for the name.
    """
    is_tracked = detection.track_id is not None and detection.track_id >= 0
    number = f"#{detection.track_id} " if is_tracked else ""
    score = f" {detection.score:.2f}"
    name = printable(detection.label)
    name = name if name.isascii() or fonts.is_drawable(name, font_px) else f"class {detection.class_id}"
    name = f"{name[: LONGEST_LABEL - 1]}…" if len(name) > LONGEST_LABEL else name
    name = fonts.cut(name, font_px, width - fonts.width_of(number + score, font_px))
    return f"{number}{name}{score}" if name else ""


def _plates(boxes: list[Rectangle], sizes: list[tuple[int, int]], image_wh: tuple[int, int]) -> list[Rectangle]:
    """One plate of each size (width, height) per box, at the first position that covers least of earlier plates."""
    plates: list[Rectangle] = []
    for box, (width, height) in zip(boxes, sizes, strict=True):
        positions = _plate_positions(box, width, height, image_wh)
        plates.append(min(positions, key=lambda plate: sum(_overlap(plate, other) for other in plates)))
    return plates


def _plate_positions(box: Rectangle, width: int, height: int, image_wh: tuple[int, int]) -> Iterator[Rectangle]:
    """Positions of a plate in the image, best first: above the box, in it, below it; at its left, at its right.

    In an image that is smaller than the plate, the plate is cut off at the right or the bottom.
    """
    left, top, right, bottom = box
    corners = [
        *((left, top - height), (left, top), (right - width, top - height), (right - width, top)),
        *((left, bottom), (left, bottom - height), (right - width, bottom), (right - width, bottom - height)),
    ]
    for left_px, top_px in corners:
        x = max(0, min(left_px, image_wh[0] - width))
        y = max(0, min(top_px, image_wh[1] - height))
        yield x, y, x + width - 1, y + height - 1


def _overlap(a: Rectangle, b: Rectangle) -> float:
    """Pixels that both cover."""
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1 for i in (0, 1))
    return max(0, width) * max(0, height)


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Writes the image in the format of the path's suffix. An existing file is replaced only by a complete one.

    Raises:
        OutputError: the suffix is not one of an image format, or the file cannot be written.
    """
    target = Path(path)
    image_format = _format_of(target)
    encoded = io.BytesIO()  # Pillow's JPEG encoder ignores short writes to a file
    try:
        image.save(encoded, image_format, **({"quality": JPEG_QUALITY} if image_format in ("JPEG", "WEBP") else {}))
        write_atomically(target, encoded.getvalue())
    except DECODER_ERRORS as error:  # encoders raise as many kinds, such as OverflowError for a GIF that is too wide
        found, remedy = _reason(error, target)
        raise OutputError(f"cannot write {path}", found=found, remedy=remedy) from error


def _format_of(path: Path) -> str:
    """Pillow's name of the format of the path's suffix."""
    suffix = path.suffix.lower()
    Image.preinit()
    image_format = Image.EXTENSION.get(suffix) or Image.registered_extensions().get(suffix)
    if not suffix or image_format is None or image_format not in Image.SAVE:  # "" is registered in Pillow 10
        raise OutputError(
            f"cannot write {path}",
            found=f"the suffix {suffix!r}" if suffix else "no suffix",
            expected=".jpg, .png, .webp or another image format",
        )
    return image_format


def _reason(error: Exception, path: Path) -> tuple[str, str | None]:
    """Why the file cannot be written, and the remedy."""
    if isinstance(error, FileNotFoundError):
        return f"no directory {path.parent}", "create it first"
    if is_directory(path):  # Windows says that there is no permission
        return "a directory", "name a file in it"
    if isinstance(error, PermissionError):
        return "no permission", "choose a directory that this user may write to"
    return reason_of(error), None
