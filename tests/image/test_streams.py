"""Image files that are pipes or devices are read within limits of size and time."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from detr_onnx.errors import ImageError
from detr_onnx.image import streams
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.streams import open_image_file, read_stdin

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes there have no names in directories")


@pytest.fixture
def pipe(tmp_path) -> Path:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    return path


def png() -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(encoded, "PNG")
    return encoded.getvalue()


def write_slowly(path: Path, pieces: list[bytes], pause_s: float = 0.0) -> threading.Thread:
    """A thread that writes the pieces into a pipe and closes it, or stops when the reader has gone."""

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), path.open("wb", buffering=0) as file:
            for piece in pieces:
                file.write(piece)
                time.sleep(pause_s)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_a_pipe_is_read_to_its_end(pipe):
    content = png()
    thread = write_slowly(pipe, [content[:20], content[20:40], content[40:]], 0.05)
    assert read_rgb(pipe).size == (30, 20)
    thread.join()


def test_an_empty_device_is_an_image_of_0_bytes():
    with pytest.raises(ImageError, match="/dev/null is not an image: found 0 bytes"):
        read_rgb("/dev/null")


def test_a_pipe_that_falls_silent_is_an_error(pipe, monkeypatch):
    monkeypatch.setattr(streams, "MAX_SILENCE_S", 0.2)
    write_slowly(pipe, [png()[:20]], 5)
    with pytest.raises(ImageError, match=r"cannot read .*pipe.png: found no data for 0.2 s"):
        open_image_file(pipe)


def test_a_pipe_that_never_ends_is_an_error(pipe, monkeypatch):
    monkeypatch.setattr(streams, "MAX_STREAM_S", 0.3)
    write_slowly(pipe, [b"x"] * 100, 0.02)
    with pytest.raises(ImageError, match=r"found no end within 0.3 s"):
        open_image_file(pipe)


def test_a_device_that_sends_too_much_is_an_error(monkeypatch):
    monkeypatch.setattr(streams, "MAX_STREAM_BYTES", 3 << 20)
    with pytest.raises(ImageError, match="cannot read /dev/zero: found more than 3 MB"):
        open_image_file(Path("/dev/zero"))


def test_a_directory_is_one_on_every_system(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")  # as Windows does when a directory is opened

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="found a directory; name the images in it"):
        read_rgb(tmp_path)


def test_a_regular_file_is_opened_and_not_read(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(streams.MAX_STREAM_BYTES + 1)
    with open_image_file(path) as file:
        assert file.tell() == 0
        assert file.name == str(path)


def test_stdin_is_read_within_a_limit(monkeypatch):
    monkeypatch.setattr(streams, "MAX_STREAM_BYTES", 3)
    assert read_stdin(io.BytesIO(b"abc")) == b"abc"
    with pytest.raises(ImageError, match="cannot read stdin"):
        read_stdin(io.BytesIO(b"abcd"))
