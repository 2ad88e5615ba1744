"""Converts every mode of Pillow to RGB, and says what was assumed where a mode does not define it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PAGES = {"TIFF", "DCX"}
ANIMATIONS = {"GIF", "PNG", "WEBP", "AVIF", "FLI", "IM", "SPIDER"}
NOT_COLOURED_AS_RGB = {"1", "L", "LA", "CMYK", "LAB"}  # a colour profile in such a file is not one of RGB
BLOCK_VALUES = 1 << 20  # that are scaled at a time: an image in float64 would take eight times its size in grey


def to_rgb(image: Image.Image, has_16_bits: bool = False) -> tuple[Image.Image, str]:
    """The image in mode RGB, and a note of the scale that was assumed, or "".

    An RGB image is returned as the same object. Alpha is dropped.

    Args:
        image: a loaded image of any mode.
        has_16_bits: whether 32-bit grey came from a file of 16 bits; see `is_16_bit`.
    """
    if image.mode == "RGB":
        return image, ""
    note = ""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey, note = eight_bit(values.astype(np.uint16) if has_16_bits and image.mode == "I" else values)
        image = Image.fromarray(grey)
    elif image.mode == "La":  # premultiplied grey converts only to LA
        image = image.convert("LA")
    elif image.mode == "P" and "transparency" in image.info:  # converting to RGB directly issues a warning
        image = image.convert("RGBA")
    rgb = image.convert("RGB")
    if image.mode in NOT_COLOURED_AS_RGB:
        rgb.info.pop("icc_profile", None)  # an RGB image saved with it would have wrong colours
    return rgb, note


def eight_bit(grey: NDArray[Any]) -> tuple[NDArray[np.uint8], str]:
    """Scales grey values of another type to [h, w] uint8, and says by which white.

    White is 65535 for uint16. int32 and float32 do not define white: it is the smallest of 1 (float32 only), 255,
    65535 and the maximum that no value exceeds. Negative values, NaN and infinity become black.
    """
    if grey.dtype.kind == "u":
        return (grey >> 8).astype(np.uint8), _scale_note("16-bit grey", 65535, int(grey.max()))
    is_float = grey.dtype.kind == "f"
    whites = (1.0, 255.0, 65535.0) if is_float else (255.0, 65535.0)
    largest = max(float(values.max()) for _, values in _in_float64(grey))
    white = next((w for w in whites if largest <= w), largest)
    note = _scale_note("floating-point grey" if is_float else "32-bit grey", white, largest)
    scaled = np.empty(grey.size, np.uint8)
    for part, values in _in_float64(grey):
        scaled[part] = np.rint(values * (255 / white))
    return scaled.reshape(grey.shape), note


def _in_float64(grey: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """The values in a row, `BLOCK_VALUES` at a time, with 0 in place of negative values, NaN and infinity."""
    flat = grey.reshape(-1)
    for start in range(0, flat.size, BLOCK_VALUES):
        part = slice(start, start + BLOCK_VALUES)
        yield part, np.nan_to_num(flat[part].astype(np.float64), posinf=0.0).clip(0)


def _scale_note(kind: str, white: float, largest: float) -> str:
    return f"{kind} is read with white at {white:g} (the largest value is {largest:g})"


def is_16_bit(image: Image.Image) -> bool:
    """Whether the file has unsigned values of 16 bits. Call it before the image is loaded.

    Pillow's modes do not tell: it opens 16-bit grey as I;16 or I, depending on its version, and colours as RGB.
    """
    tile = next(iter(getattr(image, "tile", None) or ()), None)
    arguments = tile[3] if tile is not None else None
    raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    if image.format == "PPM":
        return image.mode == "I"  # scaled to 16 bits by Pillow
    return isinstance(raw_mode, str) and ";16" in raw_mode and not raw_mode.endswith("S")


def depth_note(image: Image.Image) -> str:
    """A note for 16-bit colours, of which Pillow reads the upper 8 bits, or "". Call it before the image is loaded."""
    return "" if image.mode.startswith("I") or not is_16_bit(image) else "16-bit colours are read with white at 65535"


def frames_note(image: Image.Image) -> str:
    """A note for a file with several pages or frames, or "". The image may not be loaded again afterwards."""
    if image.format == "TIFF":
        more = bool(getattr(getattr(image, "tag_v2", None), "next", 0))
    else:
        more = image.format in PAGES | ANIMATIONS and getattr(image, "is_animated", False)
    if image.format == "HEIF" and getattr(image, "is_animated", False):
        return f"only the primary one of {getattr(image, 'n_frames', 2)} images is read"
    if not more:
        return ""
    return "only the first page is read" if image.format in PAGES else "only the first frame is read"
