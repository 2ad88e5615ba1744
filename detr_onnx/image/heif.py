"""HEIC and HEIF images, which Pillow reads only with the package pillow-heif (the extra `heif`)."""

from __future__ import annotations

import importlib
from typing import Any, BinaryIO

from PIL import Image

HEVC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
HEIF_BRANDS = {b"mif1", b"msf1", b"mif2"}
AVIF_BRANDS = {b"avif", b"avis"}
MAX_FTYP_BYTES = 1024

NO_CODEC = "no size, or no codec that pillow-heif knows"
NOT_READABLE = {
    "compression format has not been built in": "pixels in a codec that this pillow-heif does not have",
    "No or invalid primary item": "no still image, as in a sequence",
    NO_CODEC: NO_CODEC,
}
"""Words of errors that do not mean damage -> what was found."""


def heif_kind(stream: BinaryIO) -> str | None:
    """The kind of file by the brands in its first box: "HEIC", "HEIF" or "AVIF", or None for another format.

    Source: ISO/IEC 23008-12 and 14496-12. The major brand does not decide: phones write `mif1` before `heic`.
    """
    stream.seek(0)
    box = stream.read(MAX_FTYP_BYTES)
    if box[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(box[:4], "big"), len(box))
    brands = {box[8:12]} | {box[at : at + 4] for at in range(16, end - 3, 4)}
    kinds = {"AVIF": AVIF_BRANDS, "HEIC": HEVC_BRANDS, "HEIF": HEIF_BRANDS}
    return next((kind for kind, members in kinds.items() if brands & members), None)


def why_not_readable(error: Exception) -> str | None:
    """What was found in a file that pillow-heif cannot read although it may be whole; None for other errors."""
    return next((found for words, found in NOT_READABLE.items() if words in str(error)), None)


def open_heif(stream: BinaryIO) -> Image.Image | None:
    """The image with its header read, or None if pillow-heif is not installed.

    Raises:
        SyntaxError: it is damaged, as from any plug-in of Pillow.
    """
    try:
        pillow_heif: Any = importlib.import_module("pillow_heif")
    except ImportError:
        return None
    stream.seek(0)
    try:
        image: Image.Image = pillow_heif.HeifImageFile(stream, "")
    except SyntaxError as error:
        if "not identified by this driver" not in str(error):
            raise
        raise SyntaxError(NO_CODEC) from error
    return image
