"""HEIC and HEIF files are named as what they are, and read where pillow-heif is installed."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from detr_onnx.errors import ImageError, ImageTooLargeError
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.heif import heif_kind

LOSSY_STEPS = 8  # of 255: a lossy decoder's distance from a flat colour


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    """A file with this first box and nothing useful behind it."""
    brands = b"".join(compatible)
    return (16 + len(brands)).to_bytes(4, "big") + b"ftyp" + major + bytes(4) + brands + bytes(64)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (ftyp(b"heic", b"mif1", b"heic"), "HEIC"),
        (ftyp(b"heix"), "HEIC"),
        (ftyp(b"mif1", b"miaf", b"heic"), "HEIC"),
        (ftyp(b"msf1", b"hevc"), "HEIC"),
        (ftyp(b"mif1", b"miaf"), "HEIF"),
        (ftyp(b"avif", b"mif1"), "AVIF"),
        (ftyp(b"mif1", b"miaf", b"avif"), "AVIF"),
        (ftyp(b"isom", b"mp42"), None),
        (b"\xff\xd8\xff\xe0", None),
        (b"", None),
        (b"\xff\xff\xff\xffftyp", None),
    ],
)
def test_the_brands_tell_the_format(data: bytes, kind: str | None):
    assert heif_kind(io.BytesIO(data)) == kind


@pytest.mark.parametrize("major", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_a_heic_file_without_pillow_heif_is_named_with_the_remedy(major: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"the data is a HE.. image, which Pillow cannot read here; run pip install "):
        read_rgb(ftyp(major))


def test_a_video_is_not_called_heic():
    with pytest.raises(ImageError, match="the data is not an image: found a video"):
        read_rgb(ftyp(b"isom", b"mp42"))


# With pillow-heif


@pytest.fixture
def heic() -> bytes:
    """A HEIC file of 64 x 48, red at the left and blue at the right."""
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(halves()).save(stream, quality=95)
    return stream.getvalue()


def halves() -> Image.Image:
    image = Image.new("RGB", (64, 48), "red")
    image.paste("blue", (32, 0, 64, 48))
    return image


def test_a_heic_file_is_read(heic: bytes):
    read = read_rgb(heic)
    assert (read.mode, read.size) == ("RGB", (64, 48))
    assert np.abs(np.asarray(read, int) - np.asarray(halves(), int)).mean() <= LOSSY_STEPS


def test_a_rotated_heic_file_is_upright():
    pillow_heif = pytest.importorskip("pillow_heif")
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    pillow_heif.from_pillow(halves()).save(stream, quality=95, exif=exif.tobytes())
    read = read_rgb(stream.getvalue())
    assert read.size == (48, 64)
    assert read.getpixel((24, 8))[0] > 200 > 50 > read.getpixel((24, 56))[0]


def test_the_limit_of_pixels_holds_for_heic(heic: bytes):
    with pytest.raises(ImageTooLargeError, match="found 64 x 48 pixels, expected at most 3000"):
        read_rgb(heic, 3000)


def test_a_damaged_heic_file_is_an_image_error(heic: bytes):
    with pytest.raises(ImageError, match="the data is damaged or cut short"):
        read_rgb(heic[: len(heic) // 2])
    with pytest.raises(ImageError, match="the data is damaged or cut short"):
        read_rgb(ftyp(b"heic", b"mif1"))
