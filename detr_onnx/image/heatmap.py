"""Attention as colours: a map of cells, at the size of an image, laid over it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

ANCHORS = ((8, 6, 30), (84, 16, 112), (186, 46, 92), (242, 122, 28), (252, 250, 160))
"""sRGB, dark to light; between them the map is even to the eye. The colour-blind can tell blue from yellow, too."""
LEVELS = 256
FAINTEST, STRONGEST = 0.3, 0.85  # opacity of the colours of 0 and of the peak

# Linear sRGB to cones, and cones to lightness and two colour axes: OKLab.
# Source: Björn Ottosson, "A perceptual color space for image processing".
TO_CONES = np.array(((0.4122214708, 0.5363325363, 0.0514459929),
                     (0.2119034982, 0.6806995451, 0.1073969566),
                     (0.0883024619, 0.2817188376, 0.6299787005)))  # fmt: skip
TO_LAB = np.array(((0.2104542553, 0.7936177850, -0.0040720468),
                   (1.9779984951, -2.4285922050, 0.4505937099),
                   (0.0259040371, 0.7827717662, -0.8086757660)))  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One map over its image.

    Attributes:
        title: the object or the point whose attention it is, such as "1  cat 0.99".
        cells: [h,w] its attention.
        box: left, top, right, bottom of the object, in pixels of the image.
        point: x and y of the point whose attention it is, in pixels of the image.
    """

    title: str
    cells: Floats
    box: tuple[float, float, float, float] | None = None
    point: tuple[float, float] | None = None


def oklab(srgb: Any) -> NDArray[np.float64]:
    """[..., 3] sRGB in 0..255 -> [..., 3] lightness in 0..1 and two colour axes; distances are as they look."""
    values = np.asarray(srgb, np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T)


def srgb(lab: NDArray[np.float64]) -> Bytes:
    """The inverse of `oklab`, rounded. Colours outside sRGB are clipped to it."""
    linear = ((lab @ np.linalg.inv(TO_LAB).T) ** 3 @ np.linalg.inv(TO_CONES).T).clip(0, 1)
    values = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray((values * 255).round(), np.uint8)


@cache
def colour_map() -> Bytes:
    """[256, 3] sRGB; equal steps look equal."""
    anchors = oklab(ANCHORS)
    lengths = np.linalg.norm(np.diff(anchors, axis=0), axis=1)
    at, levels = np.concatenate([[0], np.cumsum(lengths)]) / lengths.sum(), np.linspace(0, 1, LEVELS)
    return srgb(np.stack([np.interp(levels, at, axis) for axis in anchors.T], axis=-1))


def colours(shares: Floats) -> Image.Image:
    """RGBA image of [h,w] shares of the peak, in 0..1: the colour and how much it covers, both rising with it."""
    levels = (shares * (LEVELS - 1)).round().astype(np.uint8)
    opacity = (255 * (FAINTEST + (STRONGEST - FAINTEST) * shares)).round().astype(np.uint8)
    return Image.fromarray(np.concatenate([colour_map()[levels], opacity[..., None]], axis=-1))


def shares_of_peak(cells: Floats) -> tuple[Floats, float]:
    """[h,w] cells as shares of the largest value, in 0..1, and that value. A map of zeros stays all zeros."""
    peak = float(cells.max())
    return np.asarray((cells / (peak or 1.0)).clip(0, 1), np.float32), peak


def resized(cells: Floats, width: int, height: int) -> Floats:
    """[height,width] smooth between the cells' centres, in their range; the cells divide the image evenly."""
    image = Image.fromarray(np.ascontiguousarray(cells, np.float32))
    smooth = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return smooth.clip(cells.min(), cells.max())


def overlay(image: Image.Image, cells: Floats) -> Image.Image:
    """The map in colours over the image in grey: every colour is attention, and the lightest is the peak."""
    grey = image.convert("L").convert("RGB")
    heat = colours(shares_of_peak(resized(cells, *image.size))[0])
    grey.paste(heat.convert("RGB"), mask=heat.getchannel("A"))
    return grey
