"""The size of the frames in an AVIF file counts, not only the size that its header tells."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image, features

from detr_onnx.errors import ImageError, ImageTooLargeError
from detr_onnx.image.avif import frame_sizes
from detr_onnx.image.decode import TRANSPOSES, read_rgb

AVIF = "avif" in features.modules and features.check("avif")
needs_avif = pytest.mark.skipif(not AVIF, reason="this Pillow cannot read AVIF")
FRAME_WH = (333, 77)
LOSSY_STEPS = 2  # of 255: a lossy decoder's distance from a flat colour


def avif(size_wh: tuple[int, int] = FRAME_WH, mode: str = "RGB", frames: int = 1) -> bytes:
    stream, more = io.BytesIO(), [Image.new(mode, size_wh, "red")] * (frames - 1)
    Image.new(mode, size_wh).save(stream, "AVIF", speed=10, save_all=frames > 1, append_images=more)
    return stream.getvalue()


def box(name: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I", 8 + len(data)) + name + data


def still_picture(width: int, height: int) -> bytes:
    """An OBU with the reduced sequence header of a still picture, with 16 bits each for width and height."""
    bits = "000" + "1" + "1" + "00000" + "1111" + "1111" + f"{width - 1:016b}" + f"{height - 1:016b}" + "0" * 6
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes([0x0A, len(payload)]) + payload


def file_with_item(item: bytes, item_type: bytes = b"av01", spans: list[tuple[int, int]] | None = None) -> bytes:
    """A file with one item, which lies in these spans of its data."""
    spans = spans or [(0, len(item))]
    places = b"".join(struct.pack(">II", 8 + start, length) for start, length in spans)
    iloc = box(b"iloc", bytes(4), b"\x44\x00", struct.pack(">HHHH", 1, 1, 0, len(spans)), places)
    infe = box(b"infe", b"\x02\0\0\0", struct.pack(">HH", 1, 0), item_type, b"\0")
    return box(b"mdat", item) + box(b"meta", bytes(4), box(b"iinf", bytes(4), b"\0\x01", infe), iloc)


@needs_avif
@pytest.mark.parametrize("size_wh", [(1, 1), (16, 16), FRAME_WH, (1000, 2000)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("frames", [1, 3])
def test_every_frame_size_of_a_file_is_found(size_wh: tuple[int, int], mode: str, frames: int):
    sizes = [*frame_sizes(avif(size_wh, mode, frames))]
    assert set(sizes) == {size_wh}
    assert len(sizes) >= (2 if mode == "RGBA" else 1)


@needs_avif
@pytest.mark.parametrize("frames", [1, 3])
def test_frames_larger_than_in_the_header_are_refused(frames: int):
    data = bytearray(avif((640, 480), frames=frames))
    told = data.index(b"ispe") + 8
    assert struct.unpack(">II", data[told : told + 8]) == (640, 480)
    data[told : told + 8] = struct.pack(">II", 64, 48)
    with pytest.raises(ImageTooLargeError, match="found 640 x 480 pixels, expected at most 10000"):
        read_rgb(bytes(data), 10_000)


@needs_avif
def test_an_ordinary_file_is_read():
    assert read_rgb(avif(mode="RGBA")).size == FRAME_WH


@needs_avif
@pytest.mark.parametrize("orientation", TRANSPOSES)
def test_every_orientation_is_made_upright(orientation: int):
    quarters, exif, stream = Image.new("RGB", (64, 48), "red"), Image.Exif(), io.BytesIO()
    quarters.paste("blue", (32, 0, 64, 48))
    quarters.paste("lime", (0, 24, 32, 48))
    exif[0x0112] = orientation
    quarters.save(stream, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    read, expected = read_rgb(stream.getvalue()), quarters.transpose(TRANSPOSES[orientation])
    assert read.size == expected.size
    assert np.abs(np.asarray(read, int) - np.asarray(expected, int)).mean() <= LOSSY_STEPS


def test_an_item_may_lie_in_parts():
    obu = still_picture(5000, 300)
    backwards = [(len(obu) - 1 - n, 1) for n in range(len(obu))]
    assert [*frame_sizes(file_with_item(obu))] == [(5000, 300)]
    assert [*frame_sizes(file_with_item(obu[::-1], spans=backwards))] == [(5000, 300)]


def test_items_that_repeat_the_file_are_refused():
    with pytest.raises(ValueError, match="overlap"):
        [*frame_sizes(file_with_item(bytes(1000), spans=[(0, 1000)] * 5000))]


def test_an_item_of_many_overlapping_parts_is_refused_before_they_are_in_memory():
    data = file_with_item(bytes(200_000), spans=[(1, 199_000)] * 1000)
    tracemalloc.start()
    with pytest.raises(ValueError, match="overlap"):
        [*frame_sizes(data)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_parts_that_take_no_bytes_of_the_file_do_not_hang():
    items = struct.pack(">HHH", 1, 0, 65535) * 50
    iloc = box(b"iloc", bytes(4), b"\0\0", struct.pack(">H", 50), items)
    start = time.monotonic()
    with pytest.raises(ValueError, match="all the same"):
        [*frame_sizes(box(b"meta", bytes(4), box(b"iinf", bytes(6)), iloc))]
    assert time.monotonic() - start < 1


def test_tracks_that_repeat_the_file_are_refused():
    track = box(b"stco", bytes(4), struct.pack(">II", 1, 1)) + box(b"stsz", bytes(4), struct.pack(">II", 1 << 30, 1))
    with pytest.raises(ValueError, match="overlap"):
        [*frame_sizes(box(b"free", bytes(10_000)) + track * 1000)]


def test_boxes_nested_without_end_cost_no_more_than_flat_ones():
    data = box(b"free") * 20_000
    for _ in range(700):
        data = box(b"moov", data)
    start = time.monotonic()
    assert [*frame_sizes(data)] == []
    assert time.monotonic() - start < 1


def test_items_of_other_types_are_not_frames():
    assert [*frame_sizes(file_with_item(still_picture(5000, 300), item_type=b"Exif"))] == []


def test_a_second_sequence_header_counts_too():
    data = file_with_item(still_picture(8, 8) + b"\x12\x00" + still_picture(5000, 300))
    assert [*frame_sizes(data)] == [(8, 8), (5000, 300)]


@pytest.mark.parametrize(
    "data",
    [
        file_with_item(b"\x12\x00" * 120_000),
        file_with_item(still_picture(8, 8))[:-3],
        box(b"meta", bytes(4), box(b"iinf", b""), box(b"iloc", b"")),
        b"\0\0\0\x01meta" + bytes(7) + b"\x05",
    ],
)
def test_damaged_files_raise_what_pillow_raises(data: bytes):
    with pytest.raises((LookupError, ValueError)):
        [*frame_sizes(data)]


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x08free", bytes(100)[:7]])
def test_files_without_frames_have_no_sizes(data: bytes):
    assert [*frame_sizes(data)] == []


@needs_avif
def test_a_truncated_file_is_an_image_error():
    data = avif()
    with pytest.raises(ImageError):
        read_rgb(data[: len(data) // 2])
