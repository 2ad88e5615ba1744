"""Text on images in every script that this system has a font for.

Pillow's own font has the characters of ASCII and few others. Other characters are drawn in the first font of the system
that has them. If none has, an accented letter loses its accent, and any other character becomes "?".
"""

from __future__ import annotations

import functools
import unicodedata
from bisect import bisect_right
from typing import cast

from PIL import ImageDraw, ImageFont

Ink = tuple[int, int, int]  # red, green, blue, 0..255

SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf"),  # Linux
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "FreeSans.ttf"),
    *("NotoSansArabic-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf"),
    *("Arial Unicode.ttf", "PingFang.ttc", "AppleSDGothicNeo.ttc"),  # macOS
    *("segoeui.ttf", "msyh.ttc", "YuGothR.ttc", "malgun.ttf", "Nirmala.ttf", "LeelawUI.ttf"),  # Windows
)
"""File names, which Pillow looks for in the font directories of the system."""

NO_CHARACTER = "\U0010fffd"  # of private use: fonts draw it as a character that they lack
UNKNOWN = "?"


def width_of(text: str, size: int) -> float:
    """The width in pixels of the text as `write` draws it."""
    return sum(font.getlength(part) for part, font in _runs(text, size))


def write(
    pen: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, ink: Ink, size: int, anchor: str = "la"
) -> None:
    """Draws the text in this size in pixels; the anchor is one of Pillow's for text that begins at `xy`."""
    x, y = xy
    for part, font in _runs(text, size):
        pen.text((x, y), part, ink, font, anchor)
        x += font.getlength(part)


def is_drawable(text: str, size: int) -> bool:
    """Whether any character of the text can be drawn."""
    return any(part.strip(f"{UNKNOWN} ") for part, _ in _runs(text, size))


def cut(text: str, size: int, width: float) -> str:
    """The text, its end replaced by "…" where it is wider than this; "" if not even a character fits."""
    if width_of(text, size) <= width:
        return text
    fitting = bisect_right(range(1, len(text)), width, key=lambda length: width_of(f"{text[:length]}…", size))
    return f"{text[:fitting].rstrip()}…" if fitting else ""


@functools.lru_cache(maxsize=4096)
def _runs(text: str, size: int) -> tuple[tuple[str, ImageFont.FreeTypeFont], ...]:
    """The text in parts, each with the font that draws it: one part if a font has every character."""
    if text.isascii():
        return ((text, _own_font(size)),)
    fonts = [_own_font(size), *(font.font_variant(size=size) for font in _system_fonts())]
    whole = next((font for font in fonts if all(_has(font, c) for c in {*text})), None)
    if whole is not None:
        return ((text, whole),)
    runs: list[tuple[str, ImageFont.FreeTypeFont]] = []
    for shown, font in (_drawable(cluster, fonts) for cluster in _clusters(text)):
        is_same = bool(runs) and (runs[-1][1] is font or shown.isspace())
        runs[-1:] = [(runs[-1][0] + shown, runs[-1][1])] if is_same else [*runs[-1:], (shown, font)]
    return tuple(runs)


def _clusters(text: str) -> list[str]:
    """The text in characters, each with the combining marks that follow it."""
    clusters: list[str] = []
    for character in text:
        is_mark = bool(clusters) and unicodedata.category(character).startswith("M")
        clusters[-1:] = [clusters[-1] + character] if is_mark else [*clusters[-1:], character]
    return clusters


def _drawable(cluster: str, fonts: list[ImageFont.FreeTypeFont]) -> tuple[str, ImageFont.FreeTypeFont]:
    """What is drawn for a character with its marks, and the font that has it."""
    whole = next((font for font in fonts if all(_has(font, c) for c in cluster)), None)
    base = unicodedata.normalize("NFKD", cluster)[:1]
    return (cluster, whole) if whole is not None else (base if base.isascii() else UNKNOWN, fonts[0])


def _has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    return character.isspace() or _drawn(font, character) != _drawn(font, NO_CHARACTER)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@functools.lru_cache(maxsize=32)
def _own_font(size: int) -> ImageFont.FreeTypeFont:
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))  # with a size, Pillow loads no other


@functools.cache
def _system_fonts() -> tuple[ImageFont.FreeTypeFont, ...]:
    """Those of `SYSTEM_FONTS` that are installed."""
    fonts = []
    for name in SYSTEM_FONTS:
        try:
            fonts.append(ImageFont.truetype(name))
        except (OSError, ValueError):  # not installed, or damaged
            continue
    return tuple(fonts)
