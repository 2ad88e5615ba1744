"""Image files of every format that Pillow writes, read by `read_rgb`."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from PIL import Image

from detr_onnx.errors import ImageError
from detr_onnx.image.decode import read_rgb
from tests.fuzz.mutate import mutate_bytes
from tests.fuzz.run import Kind

MAX_PIXELS = 1 << 20
SIDE = 16
MODES = ("RGB", "RGBA", "L", "P", "1", "I;16", "F")

VARIANTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("JPEG", "RGB", {"restart_marker_blocks": 1}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "tiff_adobe_deflate", "tile": (16, 16)}),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "I;16", {}),
    ("ICO", "RGBA", {"bitmap_format": "bmp"}),
    ("TGA", "RGB", {"compression": "tga_rle"}),
    ("PNG", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
    ("GIF", "P", {"save_all": True, "frames": 2}),
    ("PNG", "RGB", {"save_all": True, "frames": 2}),
    ("TIFF", "RGB", {"save_all": True, "frames": 2}),
    ("WEBP", "RGB", {"save_all": True, "frames": 2}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("MPO", "RGB", {"save_all": True, "frames": 2}),
)
"""Format, mode and options of valid files beside one of each format and mode."""


@functools.cache
def seeds() -> Mapping[str, bytes]:
    """Valid files by name: one of each format and mode, and `VARIANTS`."""
    Image.init()
    files = {}
    cases = [*((form, mode, {}) for form in sorted(Image.SAVE) for mode in MODES), *VARIANTS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some formats are deprecated
        for number, (form, mode, options) in enumerate(cases):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, ImageError, struct.error):
                data = _encode(form, mode, options)
                read_rgb(data)  # Pillow writes formats that it does not read, such as PDF
                files[f"{number} {form} {mode}"] = data
    with contextlib.suppress(ImportError):
        files["HEIF RGB"] = _heic()
    return files


def _heic() -> bytes:
    stream = io.BytesIO()
    pillow_heif = importlib.import_module("pillow_heif")
    pillow_heif.from_pillow(Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")).save(stream)
    return stream.getvalue()


def _encode(form: str, mode: str, options: dict[str, Any]) -> bytes:
    image = Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB" if mode == "CMYK" else "L").convert(mode)
    options, stream = dict(options), io.BytesIO()
    frames = options.pop("frames", 1)
    if frames > 1:
        options["append_images"] = [image.rotate(90 * frame) for frame in range(1, frames)]
    image.save(stream, form, **options)
    return stream.getvalue()


def mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Mutated bytes. Half of the PNG files get right checksums again, or nothing behind the first would be read."""
    mutated = mutate_bytes(random, data, others)
    return with_checksums(mutated) if data.startswith(b"\x89PNG") and random.random() < 0.5 else mutated


def with_checksums(png: bytes) -> bytes:
    """The PNG with the checksum of every chunk corrected."""
    fixed, position = bytearray(png), 8
    while position + 12 <= len(fixed):
        end = position + 8 + int.from_bytes(fixed[position : position + 4], "big")
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack(">I", zlib.crc32(fixed[position + 4 : end]))
        position = end + 4
    return bytes(fixed)


def read(data: bytes) -> str:
    """The outcome of an image that is read."""
    image = read_rgb(data, MAX_PIXELS)
    if image.mode != "RGB" or image.width * image.height > MAX_PIXELS:
        raise AssertionError(f"{image.mode} {image.size}")
    return "an image"


IMAGES = Kind(seeds, mutate, read, (ImageError,), 20)
