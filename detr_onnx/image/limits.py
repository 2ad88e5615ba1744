"""Limits that are checked before anything is decoded: pixels, also of contained images, and scans of a JPEG."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image

from detr_onnx.errors import ImageError, ImageTooLargeError
from detr_onnx.image import avif, hevc

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded. Pillow refuses at the same size; decoded they would be 700 MB."""

MAX_CONTAINED_PIXELS = 89_478_485  # above it Pillow issues a warning when it decodes an image inside another file
MAX_CONTAINED_IMAGES = 256  # in one ICO or ICNS file
MAX_ICNS_BLOCKS = 4096
MAX_CHUNKS = 1000  # before the pixels of a PNG in such a file; usual are a handful
MAX_TILE_PIXELS = 1 << 22  # of a TIFF tile, which is allocated as a whole; a larger image may have larger tiles

HEVC_BLOCK_PX = 63  # by which a side of a frame may exceed the image's, because it is coded in blocks

MAX_SCANS = 500  # as the tools of libjpeg-turbo
MAX_SCANNED_PIXELS = 5_000_000_000
"""Scans times pixels, about ten seconds of decoding. A progressive JPEG has about ten scans."""

DECODER_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, RuntimeError, LookupError),
    *(ArithmeticError, struct.error, zlib.error, AssertionError),
)
"""What Pillow's plug-ins raise for damaged data."""

TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF 6.0, section 15
MARKER = re.compile(rb"\xff[^\x00\xff]")
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
JPEG_2000 = (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP")
SOI, EOI, SOS, LOWEST_SEGMENT, RESTARTS = 0xD8, 0xD9, 0xDA, 0xC0, range(0xD0, 0xD8)


def check_contained_images(stream: BinaryIO, name: str, max_pixels: int) -> None:
    """Checks the images inside a container. Call it before Pillow opens the file, since it decodes icons on opening.

    Args:
        stream: the file; its position changes.
        name: what messages call it.
        max_pixels: the largest number of pixels.

    Raises:
        ImageTooLargeError: an image in it has too many pixels, or too many scans for their number.
        ImageError: there are too many images in the file.
    """
    start = _from_start(stream, 8)
    images: Iterator[BinaryIO] = iter(())
    if start.startswith((b"\0\0\1\0", b"icns")):
        offsets = _icns_offsets(stream) if start.startswith(b"icns") else _ico_offsets(stream)
        images = (_at(stream, offset) for offset in offsets)
    elif start.startswith(b"BLP1"):
        images = map(io.BytesIO, _blp_jpegs(stream))
    for number, contained in enumerate(images):
        if number == MAX_CONTAINED_IMAGES:
            raise ImageError(f"{name} has too many images", expected=f"at most {MAX_CONTAINED_IMAGES}")
        if image := _read_header(contained):
            height = image.height // 2 if image.format == "DIB" else image.height  # a bitmap in an icon has a mask
            check_pixels(image.width, height, name, min(max_pixels, MAX_CONTAINED_PIXELS))
            if image.format == "JPEG":
                _check_scans(_from_start(contained), image.width * image.height, name)


def check_image(image: Image.Image, stream: BinaryIO, name: str, max_pixels: int) -> None:
    """Checks an image whose header has been read.

    Args:
        image: the image as its plug-in opened it; nothing is decoded yet.
        stream: its file; the position does not change.
        name: what messages call it.
        max_pixels: the largest number of pixels.

    Raises:
        ImageTooLargeError: it has too many pixels, or too many scans for their number.
    """
    check_pixels(image.width, image.height, name, max_pixels)
    position = stream.tell()
    if image.format == "TIFF":
        _check_tile(image, name, max_pixels)
    elif image.format == "AVIF":
        for width, height in avif.frame_sizes(_from_start(stream)):
            check_pixels(width, height, name, max_pixels)
    elif image.format == "HEIF":
        for width, height in hevc.frame_sizes(_from_start(stream)):
            check_pixels(max(1, width - HEVC_BLOCK_PX), max(1, height - HEVC_BLOCK_PX), name, max_pixels)
    elif image.format in ("JPEG", "MPO"):
        _check_scans(_from_start(stream), image.width * image.height, name)
    stream.seek(position)


def check_pixels(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raises ImageTooLargeError if the image has more than `max_pixels`."""
    if width * height > max_pixels:
        limit = f"{max_pixels / 1e6:.0f} million" if max_pixels >= 1_000_000 else str(max_pixels)
        found, expected = f"{width} x {height} pixels", f"at most {limit}"
        raise ImageTooLargeError(f"{name} is too large", found=found, expected=expected, remedy="scale it down first")


def _check_tile(image: Image.Image, name: str, max_pixels: int) -> None:
    tags: Any = getattr(image, "tag_v2", {})
    width, height = tags.get(TILE_WIDTH, 1), tags.get(TILE_LENGTH, 1)
    if isinstance(width, int) and isinstance(height, int):
        check_pixels(width, height, name, max(MAX_TILE_PIXELS, min(4 * image.width * image.height, max_pixels)))


def _check_scans(data: bytes, pixels: int, name: str) -> None:
    most = min(MAX_SCANS, max(1, MAX_SCANNED_PIXELS // pixels)) if pixels else MAX_SCANS
    scans = count_scans(data, most + 1)
    if scans > most:
        raise ImageTooLargeError(
            f"{name} takes too long to decode",
            found=f"more than {most} scans in a JPEG",
            expected=f"at most {most} for its size",
            remedy="save it again as a baseline JPEG",
        )


def count_scans(data: bytes, most: int) -> int:
    """The number of scans of a JPEG, counted up to `most`.

    Markers are followed as in libjpeg: segments are skipped by their length, and data by a search for the next marker.
    """
    scans, position = 0, 0
    while scans < most and (match := MARKER.search(data, position)):
        marker, position = data[match.start() + 1], match.end()
        if marker == EOI:
            break
        scans += marker == SOS
        if marker >= LOWEST_SEGMENT and marker != SOI and marker not in RESTARTS:
            position += int.from_bytes(data[position : position + 2], "big")
    return scans


def _read_header(stream: BinaryIO) -> Image.Image | None:
    """The PNG, JPEG, JPEG 2000 or bitmap at the stream's position, its header read; None if that is damaged."""
    from PIL.BmpImagePlugin import DibImageFile
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    start = stream.read(12)
    stream.seek(-len(start), io.SEEK_CUR)
    factories: dict[tuple[bytes, ...], Any] = {
        (b"\x89PNG",): PngImageFile,
        (b"\xff\xd8",): JpegImageFile,
        JPEG_2000: Jpeg2KImageFile,
    }
    factory = next((factory for marks, factory in factories.items() if start.startswith(marks)), DibImageFile)
    content = _png_header(stream) if factory is PngImageFile else stream
    try:
        image: Image.Image = factory(content, "")
    except DECODER_ERRORS:  # it cannot be decoded either
        return None
    return image


def _png_header(stream: BinaryIO) -> BinaryIO:
    """A PNG of the same size without pixels and without texts, which Pillow would decompress: 64 MB in each image."""
    kept = [stream.read(8)]
    for _ in range(MAX_CHUNKS):
        length, name = struct.unpack(">I4s", stream.read(8).ljust(8, b"\0"))
        if name in (b"IDAT", b"fdAT", b"IEND", bytes(4)):
            break
        if name == b"IHDR":  # of several the last one counts
            kept.append(struct.pack(">I", length) + name + stream.read(length + 4))
        else:
            stream.seek(length + 4, io.SEEK_CUR)
    else:
        raise ValueError(f"more than {MAX_CHUNKS} chunks in a PNG")
    return io.BytesIO(b"".join([*kept, PNG_END]))


def _at(stream: BinaryIO, offset: int) -> BinaryIO:
    stream.seek(offset)
    return stream


def _ico_offsets(stream: BinaryIO) -> Iterator[int]:
    header = _from_start(stream, 6 + 16 * (MAX_CONTAINED_IMAGES + 1))
    count = int.from_bytes(header[4:6], "little")
    for entry in range(6, min(6 + 16 * count, len(header) - 15), 16):
        yield int.from_bytes(header[entry + 12 : entry + 16], "little")


def _icns_offsets(stream: BinaryIO) -> Iterator[int]:
    """Offsets of blocks that are complete images; the others have sizes of at most 128 x 128."""
    end, offset = int.from_bytes(_from_start(stream, 8)[4:8], "big"), 8
    for _ in range(MAX_ICNS_BLOCKS):
        stream.seek(offset)
        header = stream.read(20)
        length = int.from_bytes(header[4:8], "big")
        if len(header) < 20 or length < 8 or offset >= end:
            return
        if header[8:].startswith((b"\x89PNG", *JPEG_2000)):
            yield offset + 8
        offset += length
    raise ValueError(f"more than {MAX_ICNS_BLOCKS} blocks")


def _blp_jpegs(stream: BinaryIO) -> Iterator[bytes]:
    """The JPEG in a texture of version BLP1, if it has one."""
    data = _from_start(stream)
    if data[4:8] == bytes(4) and len(data) >= 160:
        offset, length, header = (int.from_bytes(data[at : at + 4], "little") for at in (28, 92, 156))
        yield data[160 : 160 + header] + data[offset : offset + length]


def _from_start(stream: BinaryIO, count: int = -1) -> bytes:
    stream.seek(0)
    return stream.read(count)
