"""The limits of pixels and scans hold for every container, before anything is decoded."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from detr_onnx.errors import ImageError, ImageTooLargeError
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.limits import MAX_CONTAINED_IMAGES, MAX_PIXELS, MAX_SCANS, count_scans
from tests.image.test_decode import chunk, encoded, png, png_header

HUGE = png_header(13300, 13300)
"""A PNG without pixels: whatever decodes it would call it damaged."""


def ico(*images: bytes, side: int = 16) -> bytes:
    """An icon of which every directory entry says `side` x `side`."""
    offset, entries = 6 + 16 * len(images), b""
    for image in images:
        entries += struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(image), offset)
        offset += len(image)
    return struct.pack("<HHH", 0, 1, len(images)) + entries + b"".join(images)


def bitmap_header(width: int, height: int) -> bytes:
    """The header of a bitmap in an icon, whose height counts its mask too."""
    return struct.pack("<IiiHHIIiiII", 40, width, 2 * height, 1, 32, 0, 0, 0, 0, 0, 0)


def icns(*blocks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack(">I", 8 + len(data)) + data for name, data in blocks)
    return b"icns" + struct.pack(">I", 8 + len(body)) + body


def blp(jpeg: bytes) -> bytes:
    """A texture of version 1 that says 4 x 4 and contains this JPEG."""
    header = b"BLP1" + struct.pack("<iIIIii", 0, 0, 4, 4, 5, 0)
    return header + struct.pack("<16I", 160, *[0] * 15) + struct.pack("<16I", len(jpeg), *[0] * 15) + bytes(4) + jpeg


def tiled_tiff(tile_width: int, tile_length: int, image_wh: tuple[int, int] = (1, 1), pixels: bytes = b"") -> bytes:
    """A TIFF in one tile of this size; with pixels it is not compressed."""
    width, height = image_wh
    tags = {256: width, 257: height, 258: 8, 259: 1 if pixels else 8, 262: 1, 277: 1, 322: tile_width, 323: tile_length}
    tags |= {324: 154 if pixels else 8, 325: len(pixels) or 16}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 24) + bytes(16) + struct.pack("<H", len(tags)) + entries + bytes(8) + pixels


def jpeg_header(width: int, height: int) -> bytes:
    """A JPEG that ends where its first scan starts."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data[: data.index(b"\xff\xda") + 14])


def two_headers(width: int, height: int) -> bytes:
    """A PNG whose second header counts, since Pillow reads both."""
    small = png(16, 16)
    large = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return small[:33] + large + small[33:]


def with_scans(scans: int, side: int = 16) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = encoded(Image.new("RGB", (side, side), "teal"), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - count_scans(data, 1000)) + data[-2:]


@pytest.mark.parametrize("max_pixels", [1000, 1_000_000, 49_000_000])
@pytest.mark.parametrize(
    "data",
    [
        ico(HUGE),
        ico(png(16, 16), HUGE),
        ico(two_headers(13300, 13300)),
        ico(bitmap_header(13300, 13300)),
        icns((b"ic07", HUGE)),
        icns((b"TOC ", bytes(16)), (b"icp4", png(16, 16)), (b"ic10", HUGE)),
        blp(jpeg_header(13300, 13300)),
        tiled_tiff(13312, 13312),
    ],
    ids=["ico", "ico of two", "ico with two headers", "ico with bitmap", "icns", "icns of two", "blp", "tiff"],
)
def test_an_image_in_a_container_is_refused_by_its_own_header(data: bytes, max_pixels: int):
    with pytest.raises(ImageTooLargeError, match=r"the data is too large: found 133\d\d x 133\d\d pixels"):
        read_rgb(data, max_pixels)


@pytest.mark.parametrize("tile_wh", [(16, 20_000_000), (20_000_000, 16), (2048, 2064)], ids=str)
def test_a_tile_far_larger_than_its_image_is_refused(tile_wh: tuple[int, int]):
    with pytest.raises(ImageTooLargeError, match="the data is too large: found {} x {} pixels".format(*tile_wh)):
        read_rgb(tiled_tiff(*tile_wh))


def test_a_large_image_may_be_one_tile():
    data = tiled_tiff(3008, 1504, (3000, 1500), b"\x40" * (3008 * 1504))
    assert read_rgb(data).getpixel((2999, 1499)) == (64, 64, 64)


@pytest.mark.parametrize(
    ("form", "options"), [("ICO", {}), ("ICO", {"bitmap_format": "bmp"}), ("ICNS", {}), ("TIFF", {"tile": (16, 16)})]
)
def test_ordinary_containers_are_read(form: str, options: dict[str, object]):
    assert read_rgb(encoded(Image.new("RGB", (64, 64), "red"), form, **options)).getpixel((9, 9)) == (255, 0, 0)


def test_an_image_in_a_container_gives_no_warning_of_its_size():
    with pytest.raises(ImageError, match="expected at most 89 million"):
        read_rgb(ico(png_header(10_000, 10_000)))


def test_a_container_of_too_many_images_is_refused():
    with pytest.raises(ImageError, match=f"the data has too many images: expected at most {MAX_CONTAINED_IMAGES}"):
        read_rgb(ico(*[png(16, 16)] * (MAX_CONTAINED_IMAGES + 1)))


def test_an_icns_file_of_too_many_blocks_is_damaged():
    with pytest.raises(ImageError, match="more than 4096 blocks"):
        read_rgb(icns(*[(b"none", b"")] * 5000, (b"ic10", HUGE)))


def png_with(*chunks: bytes) -> bytes:
    """An ordinary PNG with more chunks before its pixels."""
    data = encoded(Image.new("RGBA", (16, 16), "red"))
    return data[:33] + b"".join(chunks) + data[33:]


def test_texts_of_the_images_in_an_icon_are_not_decompressed_for_each_of_them():
    texts = [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) for _ in range(50)]
    image = png_with(*texts)
    data = bytearray(ico(image, *[b""] * 49))
    for entry in range(1, 50):  # all are the first one
        data[6 + 16 * entry : 22 + 16 * entry] = data[6:22]
    start = time.monotonic()
    assert read_rgb(bytes(data)).size == (16, 16)
    assert time.monotonic() - start < 3


def test_an_image_of_too_many_chunks_in_an_icon_is_damaged():
    assert read_rgb(ico(png_with(*[chunk(b"prIv", b"")] * 900))).size == (16, 16)
    with pytest.raises(ImageError, match="more than 1000 chunks in a PNG"):
        read_rgb(ico(png_with(*[chunk(b"prIv", b"")] * 1100)))


def test_a_jpeg_in_a_tiff_is_limited_by_the_size_of_the_tiff():
    data = encoded(Image.new("RGB", (64, 64)), "TIFF", compression="jpeg")
    with pytest.raises(ImageTooLargeError, match="found 64 x 64 pixels, expected at most 4095"):
        read_rgb(data, 4095)


def test_formats_that_hold_whole_files_are_not_read():
    iptc = b"\x1c\x08\x0a\x00\x04raw " + HUGE
    with pytest.raises(ImageError, match="not an image"):
        read_rgb(iptc)


# Scans


@pytest.mark.parametrize(
    ("data", "scans"),
    [
        (b"", 0),
        (b"\xff\xd8\xff\xd9", 0),
        (encoded(Image.new("L", (8, 8)), "JPEG"), 1),
        (encoded(Image.new("RGB", (8, 8)), "JPEG", progressive=True), 10),
        (b"\xff\xd8" + b"\xff\xda\x00\x02\x01\xff\x00\xda" * 3, 3),  # FF00 is data
        (b"\xff\xd8" + b"\xff\xda\x00\x02\x01\xff\xd0\xff\xd7\x02" * 3, 3),  # so are restarts
        (b"\xff\xd8\xff\xe1\x00\x06\xff\xda\xff\xda" + b"\xff\xda\x00\x02" + b"\xff\xd9", 1),  # in a segment
        (b"\xff\xd8\xff\xda\x00\x02\xff\xd9\xff\xda\x00\x02", 1),  # behind the end
        (b"\xff\xd8\xff\x02\xff\xff" + b"\xff\xda\x00\x02" * 5, 5),  # hidden in a marker without a segment
        (b"\xff\xd8" + b"\xff\xff\xff\xda\x00\x02" * 4, 4),  # with fill bytes
    ],
)
def test_scans_are_counted_as_libjpeg_reads_them(data: bytes, scans: int):
    assert count_scans(data, 1000) == scans


def test_the_number_of_scans_is_limited():
    assert read_rgb(with_scans(MAX_SCANS)).size == (16, 16)
    with pytest.raises(ImageTooLargeError, match="takes too long to decode: found more than 500 scans in a JPEG"):
        read_rgb(with_scans(MAX_SCANS + 1))


def test_a_large_image_may_have_fewer_scans():
    data = bytearray(with_scans(60))
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 13000, 13000)
    with pytest.raises(
        ImageTooLargeError, match="found more than 29 scans in a JPEG, expected at most 29 for its size"
    ):
        read_rgb(bytes(data), MAX_PIXELS)


@pytest.mark.parametrize("wrap", [lambda data: data, blp, lambda data: data + bytes(100)], ids=["jpeg", "blp", "mpo"])
def test_the_limit_of_scans_holds_for_every_container_of_a_jpeg(wrap: Callable[[bytes], bytes]):
    with pytest.raises(ImageTooLargeError, match="scans in a JPEG"):
        read_rgb(wrap(with_scans(1000)))


def test_a_jpeg_in_a_blp_is_read():
    assert read_rgb(blp(encoded(Image.new("RGB", (4, 4), "red"), "JPEG"))).size == (4, 4)


def test_a_file_object_is_read_to_its_end_after_the_checks():
    stream = io.BytesIO(encoded(Image.effect_noise((300, 200), 80), "JPEG", progressive=True))
    assert read_rgb(stream).size == (300, 200)
