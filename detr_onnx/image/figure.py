"""Figures of attention: panels with an image under its heat, a title above and a colour bar below each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from detr_onnx.image import fonts
from detr_onnx.image.heatmap import Panel, colours, overlay
from detr_onnx.text import printable

Size = tuple[int, int]  # width, height, in pixels

PAPER, INK, SOFT = (255, 255, 255), (24, 24, 24), (95, 95, 95)
ALONE_PX, IN_A_GRID_PX = 960, 440  # of the longer side of an image
LEAST_PANEL_PX = 300  # wide: room for a title
FONT_PX, SMALL_FONT_PX, TITLE_FONT_PX = 17, 14, 22
MARGIN_PX, BAR_PX = 16, 12
GRID_SHAPE = 1.5  # width over height that a grid comes close to


def figure(image: Image.Image, panels: Sequence[Panel], title: str, note: str) -> Image.Image:
    """All panels in a grid, in mode RGB.

    Args:
        image: upright, in mode RGB.
        panels: one or more.
        title: of the figure.
        note: a smaller line below the title.
    """
    shown = _fitted(image, ALONE_PX if len(panels) == 1 else IN_A_GRID_PX)
    width = max(shown.width, LEAST_PANEL_PX)
    height = FONT_PX + MARGIN_PX // 2 + shown.height + MARGIN_PX // 2 + BAR_PX + SMALL_FONT_PX + 6
    columns = _columns(len(panels), (width + MARGIN_PX, height + MARGIN_PX))
    rows = -(-len(panels) // columns)
    head = _head(title, note, columns * (width + MARGIN_PX) - MARGIN_PX)
    drawn = Image.new(
        "RGB",
        (columns * (width + MARGIN_PX) + MARGIN_PX, head.height + rows * (height + MARGIN_PX) + 2 * MARGIN_PX),
        PAPER,
    )
    drawn.paste(head, (MARGIN_PX, MARGIN_PX))
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left_top = (
            MARGIN_PX + column * (width + MARGIN_PX),
            2 * MARGIN_PX + head.height + row * (height + MARGIN_PX),
        )
        drawn.paste(_panel(image.size, shown, panel, (width, height)), left_top)
    return drawn


def _fitted(image: Image.Image, longer_px: int) -> Image.Image:
    """The image with this longer side, larger or smaller; no side is shorter than a pixel."""
    scale = longer_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)


def _columns(count: int, panel: Size) -> int:
    """The number of columns with which a grid of panels has about the shape `GRID_SHAPE`."""
    width, height = panel
    return min(count, max(1, round(math.sqrt(count * GRID_SHAPE * height / width))))


def _head(title: str, note: str, width: int) -> Image.Image:
    """The title and the note, each in as many lines as it needs."""
    lines = [(line, TITLE_FONT_PX, INK) for line in _wrapped(title, TITLE_FONT_PX, width)]
    lines += [(line, SMALL_FONT_PX, SOFT) for line in _wrapped(note, SMALL_FONT_PX, width)]
    head = Image.new("RGB", (width, sum(round(1.35 * size) for _, size, _ in lines)), PAPER)
    pen, top = ImageDraw.Draw(head), 0
    for line, size, ink in lines:
        fonts.write(pen, (0, top), line, ink, size)
        top += round(1.35 * size)
    return head


def _panel(image_size: Size, shown: Image.Image, panel: Panel, size: Size) -> Image.Image:
    """A panel of this size: title, image, colour bar with its scale."""
    drawn = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(drawn)
    fonts.write(pen, (0, 0), fonts.cut(printable(panel.title), FONT_PX, size[0]), INK, FONT_PX)
    left, top = (size[0] - shown.width) // 2, FONT_PX + MARGIN_PX // 2
    heated = overlay(shown, panel.cells)
    _mark(heated, image_size, panel)
    drawn.paste(heated, (left, top))
    _bar(drawn, top + shown.height + MARGIN_PX // 2, float(panel.cells.max()))
    return drawn


def _mark(heated: Image.Image, image_size: Size, panel: Panel) -> None:
    """Draws the box, or a cross at the point, in white with black edges, which can be seen on every colour."""
    scales = [shown / full for shown, full in zip(heated.size, image_size, strict=True)]
    pen = ImageDraw.Draw(heated)
    if panel.box is not None:
        last = np.array([heated.width - 1, heated.height - 1] * 2)
        left, top, right, bottom = np.clip(np.array(panel.box) * (scales * 2), 0, last).round().tolist()
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=(0, 0, 0), width=4)
        if right - left > 2 and bottom - top > 2:
            pen.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=(255, 255, 255), width=2)
    if panel.point is not None:
        x, y = (value * scale for value, scale in zip(panel.point, scales, strict=True))
        for reach, width, ink in ((11, 6, (0, 0, 0)), (9, 2, (255, 255, 255))):
            pen.line((x - reach, y, x + reach, y), ink, width)
            pen.line((x, y - reach, x, y + reach), ink, width)


def _bar(drawn: Image.Image, top: int, peak: float) -> None:
    """The colours from nothing to the peak, and their scale."""
    shares = np.broadcast_to(np.linspace(0, 1, drawn.width, dtype=np.float32), (BAR_PX, drawn.width))
    heat, grey = colours(np.ascontiguousarray(shares)), Image.new("RGB", (drawn.width, BAR_PX), (128, 128, 128))
    grey.paste(heat.convert("RGB"), mask=heat.getchannel("A"))
    drawn.paste(grey, (0, top))
    pen, below = ImageDraw.Draw(drawn), top + BAR_PX + 3
    for share, anchor in ((0, "la"), (0.5, "ma"), (1, "ra")):
        text = percent(share * peak) + (" per cell" if share == 1 else "")
        pen.text((share * drawn.width, below), text, SOFT, anchor=anchor, font_size=SMALL_FONT_PX)


def percent(share: float) -> str:
    """`0.02` as "2 %", with two significant digits."""
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"


def _wrapped(text: str, font_px: int, width: int) -> list[str]:
    """The text in lines of at most this width in pixels; a word that is longer is cut."""
    lines: list[str] = []
    for word in printable(text).split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and fonts.width_of(longer, font_px) <= width:
            lines[-1] = longer
        else:
            lines.append(fonts.cut(word, font_px, width))
    return lines
