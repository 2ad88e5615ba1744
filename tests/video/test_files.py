"""Files: every frame in order with its time, upright; damage is skipped and counted; bad files are one sentence."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from detr_onnx.errors import ImageTooLargeError, MissingPackageError, UsageError, VideoError
from detr_onnx.video.frames import Selection
from detr_onnx.video.open import open_video
from tests.video.clips import FPS, MATRICES, number_of, set_matrix, write_clip, write_sound


def read(path: Path, **options: object) -> list[tuple[int, float, int]]:
    """Index, time and shown number of each frame."""
    with open_video(path, **options) as video:
        return [(frame.frame_index, round(frame.seconds, 3), number_of(frame.image)) for frame in video]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.mkv", "libx265"), ("a.avi", "mpeg4"), ("a.ts", "libx264")],
)
def test_every_frame_comes_in_order_with_its_time(tmp_path, name, codec):
    clip = write_clip(tmp_path / name, 12, codec=codec)
    assert read(clip) == [(i, round(i / FPS, 3), i) for i in range(12)]


@pytest.mark.parametrize(
    ("options", "frame_s"), [({}, 0.04), ({"every": 5}, 0.2), ({"fps": 5}, 0.2), ({"fps": 100}, 0.04)]
)
def test_wanted_frames_are_shown_until_the_next_one(options, frame_s):
    assert Selection(**options).frame_s(0.04) == pytest.approx(frame_s)


def test_frames_of_a_variable_rate_have_their_own_times(tmp_path):
    times_ms = [0, 10, 30, 500, 510, 2000, 2001]
    clip = write_clip(tmp_path / "a.mp4", 7, times_ms=times_ms)
    assert read(clip) == [(i, ms / 1000, i) for i, ms in enumerate(times_ms)]


def test_frames_whose_packets_have_the_times_of_decoding_alone_have_times_that_grow(tmp_path):
    clip = write_clip(tmp_path / "a.avi", 12)  # AVI has no times for showing; x264 reorders frames
    frames = read(clip)
    assert [(index, number) for index, _, number in frames] == [(i, i) for i in range(12)]
    steps = np.diff([seconds for _, seconds, _ in frames])
    assert steps.min() >= 0
    np.testing.assert_allclose(steps[3:-2], 1 / FPS, atol=0.001)  # the decoder gives the last two without a time


def test_joined_files_go_on_where_the_first_ends(tmp_path):
    part = write_clip(tmp_path / "a.ts", 25).read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    assert [frame[1] for frame in read(tmp_path / "joined.ts")] == [round(i / FPS, 3) for i in range(50)]


def marked_image() -> Image.Image:
    """Red at the top left, blue at the top right, green at the bottom left."""
    image = Image.new("RGB", (96, 64), "black")
    for colour, corner in (("red", (0, 0)), ("blue", (64, 0)), ("lime", (0, 32))):
        image.paste(colour, (*corner, corner[0] + 32, corner[1] + 32))
    return image


@pytest.mark.parametrize("name", MATRICES)
def test_frames_are_upright_as_the_display_matrix_says(tmp_path, name):
    a, b, c, d = MATRICES[name]
    clip = set_matrix(write_clip(tmp_path / "a.mp4", [marked_image()] * 2), MATRICES[name])
    with open_video(clip) as video:
        image = next(iter(video)).image
    assert image.size == ((96, 64) if a else (64, 96))
    for colour, (x, y) in {(255, 0, 0): (16, 16), (0, 0, 255): (80, 16), (0, 255, 0): (16, 48)}.items():
        u, v = x - 48, y - 32  # from the centre, which stays where it is
        shown = image.getpixel((image.width // 2 + a * u + c * v, image.height // 2 + b * u + d * v))
        assert np.abs(np.subtract(shown, colour)).max() < 60


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"every": 3}, [0, 3, 6, 9]),
        ({"fps": 10}, [0, 3, 5, 8, 10]),
        ({"fps": 1000}, [*range(12)]),
        ({"fps": 0.1}, [0]),
        ({"start_s": 0.2}, [*range(5, 12)]),
        ({"duration_s": 0.1}, [0, 1, 2]),
        ({"start_s": 0.2, "duration_s": 0.08}, [5, 6]),
        ({"start_s": 0.2, "every": 2}, [5, 7, 9, 11]),
        ({"start_s": 0.2, "fps": 10}, [5, 8, 10]),
    ],
)
def test_frames_can_be_chosen(tmp_path, options, numbers):
    clip = write_clip(tmp_path / "a.mp4", 12, gop=4)
    frames = read(clip, **options)
    assert [shown for _, _, shown in frames] == numbers
    assert [seconds for _, seconds, _ in frames] == [round(number / FPS, 3) for number in numbers]
    assert frames[0][0] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every is wrong: found 0, expected a number of frames from 1 up"),
        ({"every": 10**400}, "every is wrong: found 1000"),
        ({"fps": 0}, "fps is wrong: found 0, expected frames a second, more than 0"),
        ({"fps": float("nan")}, "fps is wrong: found nan, expected frames a second, more than 0"),
        ({"fps": 5, "every": 2}, "every and fps cannot be combined; choose one of them"),
        ({"start_s": -1}, "the start is wrong: found -1, expected seconds from 0 up"),
        ({"duration_s": 0}, "the duration is wrong: found 0, expected seconds, more than 0"),
    ],
)
def test_numbers_that_are_out_of_range_are_refused(tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        open_video(tmp_path / "a.mp4", **options)


def test_something_that_is_not_a_name_is_refused():
    with pytest.raises(UsageError, match="the video has a wrong type: found list, expected a path, a URL"):
        open_video([])  # type: ignore[arg-type]


def damage_all(clip: Path) -> None:
    """Overwrites every packet of a file."""
    with av.open(str(clip)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0)]
    content = clip.read_bytes()
    for packet in packets:
        content = content.replace(packet, b"\xff" * len(packet))
    clip.write_bytes(content)


def test_damaged_packets_are_skipped_and_counted(tmp_path):
    content = bytearray(write_clip(tmp_path / "a.mkv", 24, gop=6).read_bytes())
    with av.open(str(tmp_path / "a.mkv")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place = content.index(bytes(packets[13]))
        content[place : place + packets[13].size] = b"\xff" * packets[13].size
    (tmp_path / "a.mkv").write_bytes(content)
    with open_video(tmp_path / "a.mkv") as video:
        numbers = [number_of(frame.image) for frame in video]
    assert video.counts.damaged >= 1
    assert video.counts.frames == len(numbers) < 24
    assert numbers[:6] == [*range(6)]
    assert numbers[-1] == 23


def test_a_file_that_is_cut_short_gives_what_it_has(tmp_path, caplog):
    clip = write_clip(tmp_path / "a.mp4", 60, options={"movflags": "faststart"})
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) * 3 // 4])
    with open_video(clip) as video:
        frames = [*video]
    assert 0 < len(frames) < 40
    assert video.counts.damaged <= 1  # the packet that is cut, if it is not at a boundary
    assert "a.mp4 is cut short: its frames end at" in caplog.text


def files_that_cannot_be_read(directory: Path) -> dict[str, str]:
    """Names of bad files, and what is said of them."""
    clip = write_clip(directory / "whole.mp4", 12)
    (directory / "half.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    (directory / "text.mp4").write_text("not a video\n" * 20)
    (directory / "empty.mp4").write_bytes(b"")
    write_sound(directory / "sound.mp4")
    write_clip(directory / "none.mp4", 0)
    write_clip(directory / "none.mkv", 0)
    damage_all(write_clip(directory / "damaged.mkv", 3))
    content = write_clip(directory / "codec.webm", 3, codec="libvpx-vp9").read_bytes()
    (directory / "codec.webm").write_bytes(content.replace(b"V_VP9", b"V_XP9"))
    Image.new("RGB", (64, 64)).save(directory / "image.jpg")
    (directory / "image.jpg").rename(directory / "image.mp4")
    (directory / "folder.mp4").mkdir()
    return {
        "half.mp4": "half.mp4 is not a video, or is damaged or cut short; get the file again",
        "text.mp4": "text.mp4 is not a video, or is damaged or cut short; get the file again",
        "empty.mp4": "empty.mp4 is not a video, or is damaged or cut short; get the file again",
        "sound.mp4": "sound.mp4 has no video stream: found audio only, expected a video",
        "none.mp4": "none.mp4 has no video stream: found no streams, expected a video",
        "none.mkv": "none.mkv is not a video, or is damaged or cut short: found no frame before its end",
        "damaged.mkv": "damaged.mkv has no frames: found [0-9]+ damaged packets; get the file again",
        "codec.webm": "codec.webm cannot be decoded: found a video codec that this PyAV does not have; convert it",
        "image.mp4": "image.mp4 is not a video: found the format",
        "folder.mp4": "cannot read .*folder.mp4: found a directory, expected a file, a URL or a camera",
        "missing.mp4": "cannot read .*missing.mp4: found no such file; check the path",
        "nul\0.mp4": "cannot read .*embedded null",
    }


def test_files_that_cannot_be_read_are_one_sentence(tmp_path):
    for name, words in files_that_cannot_be_read(tmp_path).items():
        with pytest.raises(VideoError, match=words) as raised:
            read(tmp_path / name)
        assert "\n" not in str(raised.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names")
def test_a_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="found a pipe or a device"):
        open_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["12:30 a.mp4", "concat:a.mp4", "%d.mp4", "a\nb.mp4", "-.mp4", "bücher.mp4"])
def test_any_file_name_is_a_file_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "x.mp4", 2).rename(tmp_path / name)
    assert len(read(Path(name))) == 2


PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {url}\n",
    "file": "ffconcat version 1.0\nfile /etc/passwd\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 26\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_file_cannot_make_it_open_another_one_or_a_url(tmp_path, kind):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.mp4"
        (tmp_path / "a.mp4").write_text(PLAYLISTS[kind].format(url=url))
        with pytest.raises(VideoError):
            read(tmp_path / "a.mp4")
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_start_behind_the_end_is_said(tmp_path):
    with pytest.raises(VideoError, match=r"a.mp4 has no frames from 9 s on: found its last frame at 0.440 s"):
        read(write_clip(tmp_path / "a.mp4", 12), start_s=9)


def test_a_cover_image_of_a_song_is_not_a_video(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        output.mux(cover.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 64)))))
        output.mux(cover.encode(None))
    assert len(read(tmp_path / "a.mkv")) == 1  # a video of one frame stays one


def test_a_frame_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("detr_onnx.video.frames.MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(ImageTooLargeError, match="found 96 x 64"):
        read(write_clip(tmp_path / "a.mp4", 2))


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"videos need the package av .*run pip install 'detr-onnx\[video\]'"):
        open_video(tmp_path / "a.mp4")
