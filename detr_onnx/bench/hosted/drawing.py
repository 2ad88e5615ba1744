"""Both answers drawn on an image as SVG: numbered boxes, their numbers beside the boxes, a table of names and scores.

A number stands outside its box, where it hides nothing that the box names; around the image there is a margin for the
numbers of boxes that reach to its edge. A detection of both sides has the same number on both.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from PIL import Image

from detr_onnx.bench.hosted.comparison import Comparison
from detr_onnx.bench.hosted.responses import Items
from detr_onnx.bench.hosted.results import ImageResult
from detr_onnx.image.decode import read_rgb
from detr_onnx.text import printable

LONGEST_SIDE_PX = 900  # of an image on the page
JPEG_QUALITY = 82
TYPE_SHARE = 0.034  # font size of the numbers, as a share of the image's width, which the page scales to a column
DIGIT_SHARE = 0.62  # width of a digit, as a share of the font size

Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the image."""
Size = tuple[float, float]
"""Width and height, in pixels of the image."""


@dataclass(frozen=True)
class Numbered:
    """A detection with its number on the page.

    Attributes:
        item: in the API's form.
        number: from 1, the same on both sides for a pair.
        matched: whether both sides have it.
    """

    item: Mapping[str, Any]
    number: int
    matched: bool


def drawn_image(index: int, image_result: ImageResult, comparison: Comparison) -> str:
    """A section of the page: an image with the local and with the hosted boxes, and a table of both.

    Args:
        index: of the section, for ids that are unique on the page.
    """
    image = read_rgb(image_result.image.path)
    local, hosted = numbered(image_result.local or [], image_result.hosted or [], comparison)
    name = f"p{index}"
    once = f'<image id="{name}" width="{image.width}" height="{image.height}" href="{_data_url(image)}"/>'
    counts = f"{len(comparison.pairs)} matched, {len(comparison.missing)} missing, {len(comparison.extra)} extra"
    heading = f"{text(image_result.image.name)}: {counts}; distance {comparison.distance:.3g}"
    return "\n".join(
        [
            f'<section class="image">\n<h3>{heading}</h3>\n<div class="sides">',
            _side("Local", image.size, once, local),
            _side("Hosted", image.size, f'<use href="#{name}"/>', hosted),
            "</div>",
            _table(local, hosted),
            "</section>",
        ]
    )


def numbered(local: Items, hosted: Items, comparison: Comparison) -> tuple[list[Numbered], list[Numbered]]:
    """Both answers with numbers: pairs first, then what only the local, then what only the hosted side has."""
    pairs = comparison.pairs
    ours, theirs = {pair.local for pair in pairs}, {pair.hosted for pair in pairs}
    local_only = [item for index, item in enumerate(local) if index not in ours]
    hosted_only = [item for index, item in enumerate(hosted) if index not in theirs]
    first = len(pairs) + 1
    return (
        [Numbered(local[pair.local], number, True) for number, pair in enumerate(pairs, 1)]
        + [Numbered(item, number, False) for number, item in enumerate(local_only, first)],
        [Numbered(hosted[pair.hosted], number, True) for number, pair in enumerate(pairs, 1)]
        + [Numbered(item, number, False) for number, item in enumerate(hosted_only, first + len(local_only))],
    )


def text(value: str) -> str:
    """Escaped for an element or an attribute."""
    return escape(printable(value))


def tag_rectangles(
    boxes: Sequence[Rectangle], sizes: Sequence[tuple[float, float]], frame: Rectangle
) -> list[Rectangle]:
    """Where the numbers go: each outside its own box, within the frame, and clear of earlier numbers if possible.

    Args:
        boxes: within the image.
        sizes: width and height of each number.
        frame: the image with its margin.
    """
    placed: list[Rectangle] = []
    for box, size in zip(boxes, sizes, strict=True):
        candidates = [*_around(box, size, frame)]
        placed.append(min(candidates, key=lambda tag: sum(_shared(tag, other) for other in placed)))
    return placed


def _around(box: Rectangle, size: Size, frame: Rectangle) -> Iterator[Rectangle]:
    """Rectangles above, below, left and right of a box, the upper left corner first."""
    (left, top, right, bottom), (width, height) = box, size
    rows = [y for y in (top - height, bottom) if frame[1] <= y <= frame[3] - height]
    columns = [x for x in (left - width, right) if frame[0] <= x <= frame[2] - width]
    for y in rows or [frame[1]]:
        x = min(max(left, frame[0]), frame[2] - width)
        while x <= max(left, min(right, frame[2]) - width):
            yield x, y, x + width, y + height
            x += width
    for x in columns:
        y = top
        while y <= bottom - height:
            yield x, y, x + width, y + height
            y += height


def _shared(one: Rectangle, other: Rectangle) -> float:
    """The area that two rectangles share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _side(title: str, size: tuple[int, int], image: str, detections: Sequence[Numbered]) -> str:
    """One answer, drawn; the best score is on top."""
    width, height = size
    type_px = width * TYPE_SHARE
    margin = type_px * 1.25
    frame = (-margin, -margin, width + margin, height + margin)
    boxes = [_clipped(detection.item["box"], size) for detection in detections]
    sizes = [(type_px * (DIGIT_SHARE * len(str(d.number)) + 0.4), type_px * 1.2) for d in detections]
    rectangles = tag_rectangles(boxes, sizes, frame)
    outlines = [_outline(detection, box) for detection, box in zip(detections, boxes, strict=True)]
    tags = [_tag(detection, rectangle, type_px) for detection, rectangle in zip(detections, rectangles, strict=True)]
    names = ", ".join(f"{d.number} {d.item['label']} {d.item['score']:.2f}" for d in detections) or "nothing"
    view_box = " ".join(f"{value:.1f}" for value in (frame[0], frame[1], width + 2 * margin, height + 2 * margin))
    return "\n".join(
        [
            f'<figure>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view_box}" role="img" '
            f'aria-label="{text(f"{title}: {names}")}">',
            image,
            *reversed(outlines),
            *reversed(tags),
            f"</svg>\n<figcaption>{title}: {len(detections)} found</figcaption>\n</figure>",
        ]
    )


def _clipped(box: Mapping[str, float], size: tuple[int, int]) -> Rectangle:
    """The part of a box that is in the image; a box beyond it is a line at its edge."""
    width, height = size
    left, right = (min(max(box[side], 0), width) for side in ("xmin", "xmax"))
    top, bottom = (min(max(box[side], 0), height) for side in ("ymin", "ymax"))
    return left, top, max(left, right), max(top, bottom)


def _outline(detection: Numbered, box: Rectangle) -> str:
    left, top, right, bottom = box
    return (
        f'<rect class="box {_kind(detection)}" x="{left:g}" y="{top:g}" width="{right - left:g}" '
        f'height="{bottom - top:g}"/>'
    )


def _tag(detection: Numbered, rectangle: Rectangle, type_px: float) -> str:
    left, top, right, bottom = rectangle
    return (
        f'<g class="tag {_kind(detection)}"><rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{bottom - top:.1f}" rx="{type_px * 0.2:.1f}"/><text x="{(left + right) / 2:.1f}" '
        f'y="{bottom - type_px * 0.24:.1f}" font-size="{type_px:.1f}">{detection.number}</text></g>'
    )


def _kind(detection: Numbered) -> str:
    return "both" if detection.matched else "single"


def _table(local: Sequence[Numbered], hosted: Sequence[Numbered]) -> str:
    """A row for each number: label, local score, hosted score."""
    ours, theirs = ({detection.number: detection for detection in side} for side in (local, hosted))
    rows = []
    for number in sorted(ours | theirs):
        detection = (ours | theirs)[number]
        scores = [f"{side[number].item['score']:.3f}" if number in side else "–" for side in (ours, theirs)]
        rows.append(
            f'<tr class="{_kind(detection)}"><td><b class="number">{number}</b></td>'
            f"<td>{text(detection.item['label'])}</td><td>{scores[0]}</td><td>{scores[1]}</td></tr>"
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("#", "label", "local", "hosted"))
    return f'<table class="detections">\n<tr>{head}</tr>\n' + "\n".join(rows) + "\n</table>"


def _data_url(image: Image.Image) -> str:
    """The image as a JPEG in base64, scaled down for a page."""
    small = image.copy()
    small.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
