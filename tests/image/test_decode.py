"""Every source of an image is read as an upright RGB image, or refused with one clear error."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_onnx.errors import ImageError, UsageError
from detr_onnx.image.decode import MAX_PIXELS, read_rgb

JPEG_STEPS = 6  # of 255: a lossy decoder's distance from a flat colour


def striped(width: int = 12, height: int = 8) -> Image.Image:
    """An image that every rotation and flip changes: red at the upper left, bluer towards the bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 2] = np.linspace(0, 200, height)[:, None]
    pixels[: height // 2, : width // 2, 0] = 255
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *, bit_depth: int = 8, pixels: bytes = b"") -> bytes:
    """An RGB file with this header, whatever its compressed pixels are."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bit_depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def png_header(width: int, height: int) -> bytes:
    """A PNG file that ends where its pixels start."""
    return png(width, height)[:41]


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.mode == b.mode and a.size == b.size and a.tobytes() == b.tobytes()


def test_empty_data_is_not_an_image():
    with pytest.raises(ImageError, match="the data is not an image: found 0 bytes"):
        read_rgb(b"")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"hello world\n", r"12 bytes of text \('hello world'\)"),
        ("größer".encode()[:3], "3 bytes of text"),
        (b'{"error": "not found"}', r"22 bytes of text \('{\"error\": \"not found\"}'\)"),
        (b"\x89PNG\n\x1a\n" + bytes(80), "87 bytes that begin with 89 50"),  # carriage returns are lost
        (b"%PDF-1.7 \x00", "a PDF document"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\x00\x00\x00\x18ftypcrx ", "a Canon raw image"),
        (b"\x00\x00\x00\x18ftypisom", "a video"),
        (b"\xfe\xed\x00\x01" * 9, "36 bytes that begin with fe ed 00 01"),
    ],
)
def test_data_that_is_not_an_image_is_named(data: bytes, found: str):
    with pytest.raises(ImageError, match=f"the data is not an image: found {found}.*expected JPEG"):
        read_rgb(data)


@pytest.mark.parametrize("kind", ["path", "text path", "bytes", "bytearray", "memoryview", "file", "image", "array"])
def test_every_kind_of_source_gives_the_same_image(kind: str, tmp_path: Path):
    image, path = striped(), tmp_path / "striped.png"
    path.write_bytes(encoded(image))
    data = path.read_bytes()
    sources = {
        "path": path,
        "text path": str(path),
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "file": io.BytesIO(data),
        "image": image,
        "array": np.asarray(image),
    }
    assert same(read_rgb(sources[kind]), image)


def test_a_file_object_is_read_from_its_start_and_left_open():
    stream = io.BytesIO(encoded(striped()))
    stream.seek(20)
    assert same(read_rgb(stream), striped())
    assert not stream.closed


def test_a_pipe_is_read_to_its_end():
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as sink:
        sink.write(encoded(striped()))
    with os.fdopen(reading, "rb") as pipe:
        assert same(read_rgb(pipe), striped())
        assert not pipe.closed


def test_an_object_that_can_only_read_is_a_file():
    class Body:
        """As the body of a response, which has neither `seek` nor `closed`."""

        read = io.BytesIO(encoded(striped())).read

    assert same(read_rgb(Body()), striped())


def test_a_path_is_closed_after_reading(tmp_path: Path):
    path = tmp_path / "a.gif"
    striped().save(path, save_all=True, append_images=[striped(12, 8)])
    open_before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    image = read_rgb(path)
    open_after = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    assert image.size == (12, 8)
    assert open_after == open_before


@pytest.mark.parametrize("source", [None, 3, [1, 2], io.StringIO("text"), object()])
def test_other_types_are_refused_by_name(source: object):
    with pytest.raises(UsageError, match=type(source).__name__):
        read_rgb(source)  # type: ignore[arg-type]


def test_a_closed_file_and_a_file_for_writing_are_refused(tmp_path: Path):
    closed = io.BytesIO(b"1")
    closed.close()
    with pytest.raises(UsageError, match='open it with mode "rb"'):
        read_rgb(closed)
    with (tmp_path / "out").open("wb") as writing, pytest.raises(UsageError, match='open it with mode "rb"'):
        read_rgb(writing)


def test_paths_that_cannot_be_opened_say_why(tmp_path: Path):
    with pytest.raises(ImageError, match="no such file; check the path"):
        read_rgb(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="a directory; name the images in it"):
        read_rgb(tmp_path)
    with pytest.raises(ImageError, match=r"null (byte|character)"):
        read_rgb("a\0b")
    with pytest.raises(ImageError, match="name too long") as raised:
        read_rgb("x" * 5000)
    assert len(str(raised.value)) < 300
    with pytest.raises(ImageError, match="no such file"):
        read_rgb("~/striped.png")
    with pytest.raises(ImageError, match="an empty path; check the path"):
        read_rgb("")


@pytest.mark.parametrize(
    "url", ["https://example.com/a.jpg", "HTTP://a/b.png", "file:///a.jpg", "data:image/png;base64,AA"]
)
def test_urls_are_not_fetched(url: str):
    with pytest.raises(ImageError, match="a URL; download it, and pass its path or its bytes"):
        read_rgb(url)


def test_a_tensor_is_told_how_to_become_an_array():
    class Tensor:
        def permute(self, *axes: int) -> None: ...

    with pytest.raises(UsageError, match=r"pass tensor\.permute\(1, 2, 0\)\.numpy\(\)"):
        read_rgb(Tensor())  # type: ignore[arg-type]


def test_a_file_without_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "secret.jpg").write_bytes(b"")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="no permission; allow this user to read it"):
        read_rgb(tmp_path / "secret.jpg")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_image_is_damaged(form: str, tmp_path: Path):
    data = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), form)
    path = tmp_path / "half.img"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"half\.img is damaged or cut short: found .*; get the file again"):
        read_rgb(path)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_data_gives_an_image_or_an_image_error(seed: int):
    generator = np.random.default_rng(seed)
    form = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")[seed % 6]
    data = np.frombuffer(encoded(striped(), form), np.uint8).copy()
    positions = generator.integers(0, min(len(data), 100), 5)
    data[positions] = generator.integers(0, 256, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        with contextlib.suppress(ImageError):
            assert read_rgb(data.tobytes()).mode == "RGB"


def test_an_image_beyond_the_limit_is_refused_by_its_header():
    with pytest.raises(ImageError, match="too large: found 60000 x 60000 pixels, expected at most 179 million"):
        read_rgb(png_header(60000, 60000))


def test_an_image_within_the_limit_gives_no_warning_and_changes_no_global_limit():
    before = Image.MAX_IMAGE_PIXELS
    assert MAX_PIXELS > 10_000 * 10_000
    with pytest.raises(ImageError, match="cut short"):  # Pillow would warn of 100 million pixels
        read_rgb(png_header(10_000, 10_000))
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0), (0,), (4,), (5, 4, 2), (1, 5, 4, 3), (3, 5, 6)])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(UsageError, match=r"found uint8 \[.*expected uint8 \[height, width, 3\]"):
        read_rgb(np.zeros(shape, np.uint8))


def test_arrays_of_other_types_are_refused_with_a_remedy():
    with pytest.raises(UsageError, match=r"found float32 .*use array.astype"):
        read_rgb(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"transpose\(1, 2, 0\)"):
        read_rgb(np.zeros((3, 6, 5), np.uint8))
    with pytest.raises(UsageError, match="pass the images one by one"):
        read_rgb(np.zeros((2, 6, 5, 3), np.uint8))


def test_arrays_may_be_grey_have_alpha_or_be_strided():
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    colour = np.dstack([grey, grey + 50, grey + 100])
    assert np.array_equal(read_rgb(grey), np.dstack([grey] * 3))
    assert np.array_equal(read_rgb(grey[..., None]), np.dstack([grey] * 3))
    assert np.array_equal(read_rgb(np.dstack([colour, grey])), colour)
    assert np.array_equal(read_rgb(colour[::-1, ::2]), colour[::-1, ::2])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_rotated_as_its_exif_orientation_says(orientation: int, form: str):
    # By the definition of EXIF, row 0 and column 0 of the stored image are, for orientations 1 to 8: top left,
    # top right, bottom right, bottom left, left top, right top, right bottom, left bottom of the upright image.
    upright = np.asarray(striped(48, 32))
    stored = upright.swapaxes(0, 1) if orientation >= 5 else upright
    flip_rows = orientation in (3, 4, 7, 6)
    flip_columns = orientation in (2, 3, 7, 8)
    stored = stored[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **options)
    read = read_rgb(data)
    assert read.size == (48, 32)
    difference = np.asarray(read).astype(int) - upright
    assert np.median(np.abs(difference)) <= (JPEG_STEPS if form == "JPEG" else 0)
    assert np.mean(np.abs(difference)) <= (JPEG_STEPS if form == "JPEG" else 0)


def test_an_upright_image_is_not_rotated_again():
    exif = Image.Exif()
    exif[0x0112] = 6
    once = read_rgb(encoded(striped(), "PNG", exif=exif))
    assert once.size == (8, 12)
    assert read_rgb(once) is once


def test_damaged_metadata_is_ignored():
    assert same(read_rgb(encoded(striped(), "PNG", exif=b"Exif\0\0no exif at all")), striped())


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_every_mode_becomes_rgb(mode: str):
    via = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)
    read = read_rgb(striped().convert(via).convert(mode))
    assert (read.mode, read.size) == ("RGB", (12, 8))
    if mode not in ("1", "L", "LA", "La"):
        assert np.abs(np.asarray(read).astype(int) - np.asarray(striped())).mean() <= JPEG_STEPS


def test_transparency_is_dropped_and_the_colours_beneath_it_stay():
    image = striped().convert("RGBA")
    image.putalpha(0)
    assert same(read_rgb(encoded(image)), striped())
    palette = striped().convert("P")
    expected = palette.convert("RGB")
    assert same(read_rgb(encoded(palette, transparency=bytes(range(100)))), expected)
    assert same(read_rgb(encoded(palette, transparency=3)), expected)


def test_16_bit_grey_is_scaled_and_not_clipped():
    grey = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for image in (Image.fromarray(grey), Image.open(io.BytesIO(encoded(Image.fromarray(grey))))):
        assert np.asarray(read_rgb(image))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_dark_16_bit_grey_stays_dark(form: str):
    grey = np.array([[0, 200, 255]], np.uint16)
    image = Image.fromarray(grey.astype(np.int32) if form == "PPM" else grey)
    assert np.asarray(read_rgb(encoded(image, form))).max() == 0


def test_signed_16_bit_grey_has_black_below_zero():
    data = bytearray(encoded(Image.fromarray(np.array([[-5, 300]], np.int32)), "TIFF"))
    tags, values = {258: 16, 339: 2}, np.array([-5, 300], "<i2").tobytes()
    first = struct.unpack("<I", data[4:8])[0]
    for entry in range(first + 2, first + 2 + 12 * data[first], 12):
        tag = struct.unpack("<H", data[entry : entry + 2])[0]
        if tag in tags:
            data[entry + 8 : entry + 10] = struct.pack("<H", tags[tag])
        if tag == 273:
            start = struct.unpack("<I", data[entry + 8 : entry + 12])[0] & 0xFFFF
            data[start : start + 4] = values
    assert np.asarray(read_rgb(bytes(data)))[0, :, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (np.array([[7, 4095]], np.uint16), "16-bit grey is read with white at 65535 (the largest value is 4095)"),
        (np.array([[7, 4095]], np.int32), "32-bit grey is read with white at 65535 (the largest value is 4095)"),
        (np.array([[7, 70000]], np.int32), "32-bit grey is read with white at 70000 (the largest value is 70000)"),
        (np.array([[0, 0.5]], np.float32), "floating-point grey is read with white at 1 (the largest value is 0.5)"),
    ],
)
@pytest.mark.parametrize("kind", ["image", "file"])
def test_the_assumed_scale_of_other_types_is_logged_once(
    values: np.ndarray, note: str, kind: str, caplog: pytest.LogCaptureFixture
):
    image = Image.fromarray(values)
    read_rgb(image if kind == "image" else encoded(image, "TIFF"))
    assert caplog.messages == [f"the {'image' if kind == 'image' else 'data'}: {note}"]


def tiff_of_16_bits(*colour: int) -> bytes:
    """A TIFF of one pixel, with three channels of 16 bits."""
    end = 8 + 2 + 8 * 12 + 4  # of the directory
    tags = {256: 1, 257: 1, 258: end, 259: 1, 262: 2, 273: end + 6, 277: 3, 279: 6}
    entries = [struct.pack("<HHII", tag, 3, 3 if tag == 258 else 1, value) for tag, value in tags.items()]
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return header + b"".join(entries) + bytes(4) + struct.pack("<6H", 16, 16, 16, *colour)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_the_scale_of_16_bit_colours_is_logged(form: str, caplog: pytest.LogCaptureFixture):
    colour = (4095, 256, 65535)
    rows = b"\0" + np.array(colour, ">u2").tobytes()
    data = png(1, 1, bit_depth=16, pixels=zlib.compress(rows)) if form == "PNG" else tiff_of_16_bits(*colour)
    assert read_rgb(data).getpixel((0, 0)) == (15, 1, 255)
    assert caplog.messages == ["the data: 16-bit colours are read with white at 65535"]


def test_images_of_8_bits_give_no_note(caplog: pytest.LogCaptureFixture):
    for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"):
        read_rgb(encoded(striped(), form))
        read_rgb(encoded(striped().convert("L"), form))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 7, 255, -3]], np.int32), [0, 7, 255, 0]),
        (np.array([[0, 257, 65535, -3]], np.int32), [0, 1, 255, 0]),
        (np.array([[0, 0.5, 1, -3]], np.float32), [0, 128, 255, 0]),
        (np.array([[0, 100, 255, np.nan]], np.float32), [0, 100, 255, 0]),
        (np.array([[0, 1e9, 0, np.inf]], np.float32), [0, 255, 0, 0]),
        (np.array([[0, 0]], np.float32), [0, 0]),
    ],
)
def test_32_bit_grey_is_scaled_by_the_smallest_white_that_no_value_exceeds(values: np.ndarray, expected: list[int]):
    assert np.asarray(read_rgb(Image.fromarray(values)))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_grey_of_many_pixels_takes_little_memory_beside_them(dtype: type):
    image = Image.fromarray(np.arange(9_000_000, dtype=dtype).reshape(3000, 3000))
    image.load()
    tracemalloc.start()
    rgb = read_rgb(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 9_000_000
    expected = np.rint(np.arange(9_000_000) * (255 / 8_999_999)).astype(np.uint8)
    assert np.array_equal(np.asarray(rgb)[..., 0].ravel(), expected)


@pytest.mark.parametrize(("mode", "is_kept"), [("CMYK", False), ("L", False), ("RGB", True)])
def test_a_colour_profile_stays_only_with_the_colours_it_is_for(mode: str, is_kept: bool):
    data = encoded(Image.new(mode, (9, 7)), "JPEG", icc_profile=b"a profile")
    assert ("icc_profile" in read_rgb(data).info) is is_kept


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame_and_a_note(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    first, second = Image.new("RGB", (9, 7), "red"), Image.new("RGB", (9, 7), "blue")
    path = tmp_path / "moving"
    options = {"lossless": True} if form == "WEBP" else {}
    path.write_bytes(encoded(first, form, save_all=True, append_images=[second], duration=100, **options))
    frame = read_rgb(path)
    assert same(frame.resize((3, 3)), first.resize((3, 3)))  # its file is closed already
    assert caplog.messages == [f"{path}: only the first frame is read"]


def test_the_first_page_of_several_is_read_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "sc\x1ban.tif"
    first = Image.fromarray(np.array([[0, 4095]], np.uint16))
    first.save(path, save_all=True, append_images=[Image.new("RGB", (9, 7), "blue")] * 3)
    assert read_rgb(path).size == (2, 1)
    (note,) = caplog.messages
    assert note.endswith("sc\\x1ban.tif: 16-bit grey is read with white at 65535 (the largest value is 4095); only the"
                         " first page is read")  # fmt: skip


def test_damage_behind_the_first_frame_does_not_matter():
    first = striped()
    data = encoded(first, "GIF", save_all=True, append_images=[Image.effect_noise((64, 64), 80)] * 2)
    whole = read_rgb(data)
    assert same(read_rgb(data[: len(data) // 2]), whole)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ImageError, match="no pixels: found 0 x 5"):
        read_rgb(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_the_thinnest_images_are_read(size: tuple[int, int]):
    assert read_rgb(encoded(Image.new("RGB", size))).size == size


def test_formats_that_run_another_program_are_refused():
    with pytest.raises(ImageError, match=r"not an image: found .* bytes of text"):
        read_rgb(encoded(striped(), "EPS"))


# What is no longer open, and buffers of every form


def test_a_closed_image_or_file_is_called_closed_and_not_damaged():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    for close_first in (lambda image: image.close(), lambda image: image.fp.close()):
        image = Image.open(io.BytesIO(stream.getvalue()))
        close_first(image)
        with pytest.raises(
            ImageError, match=r"the image cannot be read: found .* closed .*; pass it before it is closed"
        ):
            read_rgb(image)


def test_a_detached_file_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    file = (tmp_path / "a").open("rb")
    file.detach().close()
    with pytest.raises(UsageError, match="cannot be read as bytes: found BufferedReader"):
        read_rgb(file)


def test_a_memoryview_with_gaps_is_read():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(stream, "PNG")
    gaps = bytearray(2 * len(stream.getvalue()))
    gaps[::2] = stream.getvalue()
    assert read_rgb(memoryview(gaps)[::2]).getpixel((0, 0)) == (1, 2, 3)
