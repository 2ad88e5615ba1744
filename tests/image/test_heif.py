"""HEIC and HEIF files are named as what they are, and read where pillow-heif is installed."""

from __future__ import annotations

import io
import re
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, features

from detr_onnx.errors import ImageError, ImageTooLargeError
from detr_onnx.image.decode import TRANSPOSES, read_rgb
from detr_onnx.image.heif import heif_kind
from detr_onnx.image.hevc import frame_sizes
from detr_onnx.image.isobmff import MOST_UNITS
from detr_onnx.image.limits import HEVC_BLOCK_PX
from tests.image.test_avif import file_with_item

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


@pytest.mark.parametrize("orientation", TRANSPOSES)
def test_every_orientation_of_a_heic_file_is_made_upright(orientation: int):
    pillow_heif = pytest.importorskip("pillow_heif")
    quarters = halves()
    quarters.paste("lime", (0, 24, 32, 48))
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    pillow_heif.from_pillow(quarters).save(stream, quality=95, chroma=444, exif=exif.tobytes())
    read, expected = read_rgb(stream.getvalue()), quarters.transpose(TRANSPOSES[orientation])
    assert read.size == expected.size
    assert np.abs(np.asarray(read, int) - np.asarray(expected, int)).mean() <= LOSSY_STEPS


def test_the_limit_of_pixels_holds_for_heic(heic: bytes):
    with pytest.raises(ImageTooLargeError, match="found 64 x 48 pixels, expected at most 3000"):
        read_rgb(heic, 3000)


def test_of_several_images_the_primary_one_is_read_with_a_note(caplog: pytest.LogCaptureFixture):
    pillow_heif = pytest.importorskip("pillow_heif")
    file, stream = pillow_heif.from_pillow(halves()), io.BytesIO()
    file.add_from_pillow(Image.new("RGB", (32, 80), "lime"))
    file.add_from_pillow(halves())
    file.save(stream, quality=95, primary_index=1)
    assert read_rgb(stream.getvalue()).size == (32, 80)
    assert caplog.messages == ["the data: only the primary one of 3 images is read"]


def test_a_single_image_gives_no_note(heic: bytes, caplog: pytest.LogCaptureFixture):
    read_rgb(heic)
    assert caplog.messages == []


def test_transparency_is_dropped_and_the_colours_beneath_it_stay():
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGBA", (64, 48), (200, 30, 40, 0))).save(stream, quality=95)
    assert np.abs(np.asarray(read_rgb(stream.getvalue()), int) - (200, 30, 40)).max() <= LOSSY_STEPS


@pytest.mark.parametrize(("mode", "shape"), [("RGB;16", (48, 64, 3)), ("I;16", (48, 64))])
def test_ten_bits_are_scaled_to_eight(mode: str, shape: tuple[int, ...]):
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_bytes(mode, (64, 48), np.full(shape, 40000, np.uint16).tobytes()).save(stream, quality=95)
    assert np.abs(np.asarray(read_rgb(stream.getvalue()), int) - 40000 // 256).max() <= LOSSY_STEPS


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            "Support for this compression format has not been built in: AV1",
            "a codec that this pillow-heif does not have",
        ),
        ("Invalid input: No or invalid primary item", "no still image, as in a sequence"),
        ("not identified by this driver", "no size, or no codec that pillow-heif knows"),
    ],
)
def test_a_whole_file_that_cannot_be_read_is_not_called_damaged(
    error: str, found: str, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*arguments: object) -> None:
        raise SyntaxError(error)

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(HeifImageFile=refuse))
    with pytest.raises(ImageError, match=f"the data cannot be read here: found .*{found}; save it as JPEG"):
        read_rgb(ftyp(b"heic"))


def test_an_av1_image_under_brands_of_heif_alone_is_not_called_damaged():
    pillow_heif = pytest.importorskip("pillow_heif")
    pytest.importorskip("PIL.AvifImagePlugin")  # since Pillow 11.3
    libheif = pillow_heif.libheif_info()
    if not features.check("avif") or libheif["AVIF"] or "dav1d" in str(libheif):
        pytest.skip("AV1 can be read by pillow-heif, or cannot be written")
    stream = io.BytesIO()
    halves().save(stream, "AVIF")
    data = stream.getvalue().replace(b"ftypavif", b"ftypmif1").replace(b"avif", b"miaf")
    assert heif_kind(io.BytesIO(data)) == "HEIF"
    with pytest.raises(ImageError, match="found pixels in a codec that this pillow-heif does not have"):
        read_rgb(data)


def test_frames_larger_than_in_the_header_are_refused():
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (640, 480))).save(stream, quality=50)
    data = bytearray(stream.getvalue())
    told = data.index(b"ispe") + 8
    assert struct.unpack(">II", data[told : told + 8]) == (640, 480)
    data[told : told + 8] = struct.pack(">II", 64, 48)
    with pytest.raises(ImageTooLargeError, match="found 577 x 417 pixels, expected at most 10000"):
        read_rgb(bytes(data), 10_000)


@pytest.mark.parametrize("size_wh", [(1, 1), (64, 48), (333, 77), (1000, 200)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_the_frame_sizes_of_a_file_are_those_of_its_images_in_whole_blocks(size_wh: tuple[int, int], mode: str):
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new(mode, size_wh)).save(stream, quality=50)
    sizes = {*frame_sizes(stream.getvalue())}
    assert sizes
    assert all(0 <= coded - side <= HEVC_BLOCK_PX for size in sizes for coded, side in zip(size, size_wh, strict=True))


def sequence_parameters(width: int, height: int, layers: int = 0, chroma: int = 1) -> bytes:
    """A NAL unit that begins as a sequence parameter set, behind its length."""

    def variable(value: int) -> str:
        digits = f"{value + 1:b}"
        return "0" * (len(digits) - 1) + digits

    profiles = "0" * 96 + "11" * layers + ("00" * (8 - layers) if layers else "") + "0" * 96 * layers
    sizes = variable(0) + variable(chroma) + ("0" if chroma == 3 else "") + variable(width) + variable(height)
    bits = f"0000{layers:03b}1" + profiles + sizes
    bits += "0" * (-len(bits) % 8)
    payload = re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:])
    unit = b"\x42\x01" + payload
    return len(unit).to_bytes(4, "big") + unit


@pytest.mark.parametrize("size_wh", [(8, 8), (4096, 2160), (16384, 16384), (65535, 1)])
@pytest.mark.parametrize(("layers", "chroma"), [(0, 1), (2, 1), (6, 3)])
def test_parameters_in_an_image_item_count_too(size_wh: tuple[int, int], layers: int, chroma: int):
    item = b"\0\0\0\2\x26\1" + sequence_parameters(*size_wh, layers, chroma)  # behind a NAL unit of a picture
    assert [*frame_sizes(file_with_item(item, b"hvc1"))] == [size_wh]


@pytest.mark.parametrize("item", [b"", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1\x42", b"\0\0\0\3\x26\1\2", b"\0\0"])
def test_an_item_without_parameters_has_no_size_or_a_wrong_one_and_ends(item: bytes):
    assert len([*frame_sizes(file_with_item(item, b"hvc1"))]) <= 1


def test_very_many_units_are_refused():
    with pytest.raises(ValueError, match="units of video"):
        [*frame_sizes(file_with_item(bytes(4 * (MOST_UNITS + 1)), b"hvc1"))]


def test_a_damaged_heic_file_is_an_image_error(heic: bytes):
    with pytest.raises(ImageError, match="the data is damaged or cut short"):
        read_rgb(heic[: len(heic) // 2])
    with pytest.raises(ImageError, match="the data is damaged or cut short"):
        read_rgb(ftyp(b"heic", b"mif1"))
