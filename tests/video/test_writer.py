"""Annotated videos: times and sound of the source, playable whenever they end, whole or not there at all."""

from __future__ import annotations

import itertools
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from detr_onnx.errors import OutputError, UsageError
from detr_onnx.video import audio
from detr_onnx.video.open import open_video
from detr_onnx.video.writer import VideoWriter
from tests.video.clips import (
    FPS,
    GREY_STEP,
    MATRICES,
    grey_image,
    number_of,
    read_clip,
    set_matrix,
    sound_packets,
    write_clip,
)


def copied(source: Path, target: Path, **options: object) -> tuple[list[float], list[Image.Image]]:
    """Writes the frames of a file as they are; times and images of what was written."""
    with open_video(source, **options) as video, VideoWriter(target, video) as writer:
        for frame in video:
            writer.write(frame.seconds, frame.image)
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []
    return read_clip(target)


def codec_of(path: Path) -> tuple[str, str]:
    with av.open(str(path)) as container:
        return container.format.name, container.streams.video[0].codec_context.name


@pytest.mark.parametrize(
    ("name", "codec"),
    [("out.mp4", "h264"), ("out.M4V", "h264"), ("out.mov", "h264"), ("out.mkv", "h264"), ("out.webm", "vp9")],
)
def test_frames_are_written_at_their_times(tmp_path, name, codec):
    times_ms = [0, 10, 30, 500, 510, 2000, 2040]
    times, images = copied(write_clip(tmp_path / "a.mp4", 7, times_ms=times_ms), tmp_path / name)
    assert times == [ms / 1000 for ms in times_ms]
    assert [number_of(image) for image in images] == [*range(7)]
    assert codec_of(tmp_path / name)[1] in (codec, f"lib{codec}", "libvpx-vp9")


def test_colours_stay(tmp_path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    clip = write_clip(tmp_path / "a.mp4", [Image.new("RGB", (64, 64), colour) for colour in colours])
    with open_video(clip) as video:
        before = [np.asarray(frame.image).mean((0, 1)) for frame in video]
    copied(clip, tmp_path / "out.mp4")
    with open_video(tmp_path / "out.mp4") as video:
        after = [np.asarray(frame.image).mean((0, 1)) for frame in video]
    assert np.abs(np.subtract(before, after)).max() < GREY_STEP


def test_turned_frames_are_written_upright(tmp_path):
    clip = set_matrix(write_clip(tmp_path / "a.mp4", 3), MATRICES["90 clockwise"])
    _, images = copied(clip, tmp_path / "out.mp4")
    assert images[0].size == (64, 96)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


@pytest.mark.parametrize(("matrix", "aspect"), [("upright", Fraction(4, 3)), ("90 clockwise", Fraction(3, 4))])
def test_pixels_that_are_not_square_stay_so(tmp_path, matrix, aspect):
    clip = set_matrix(write_clip(tmp_path / "a.mp4", 2, aspect=Fraction(4, 3)), MATRICES[matrix])
    copied(clip, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == aspect


def test_sound_is_copied_packet_by_packet(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 25, audio="aac")
    for name in ("out.mp4", "out.mkv"):
        copied(clip, tmp_path / name)
        assert sound_packets(tmp_path / name) == sound_packets(clip)


def test_sound_that_the_format_cannot_hold_is_encoded_anew(tmp_path):
    copied(write_clip(tmp_path / "a.mp4", 25, audio="aac"), tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(samples) == pytest.approx(48000, rel=0.05)
    spectrum = np.abs(np.fft.rfft(samples[5000:45000]))
    assert np.argmax(spectrum) * 48000 / 40000 == pytest.approx(440, abs=3)


def test_sound_of_six_channels_becomes_stereo_where_opus_cannot_hold_it(tmp_path):
    clip = tmp_path / "a.mkv"
    with av.open(str(clip), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound = output.add_stream("ac3", rate=48000, layout="5.1(side)")
        output.mux(stream.encode(av.VideoFrame.from_image(grey_image(1))))
        output.mux(stream.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((6, 4800), np.float32), "fltp", "5.1(side)")
        samples.sample_rate, samples.pts = 48000, 0
        output.mux(sound.encode(samples))
        output.mux(sound.encode(None))
    copied(clip, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].layout.name == "stereo"


def write_sounding(path: Path, codec: str, rate: int, layout: str) -> Path:
    """A second of video with silence of this kind."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound = output.add_stream(codec, rate=rate, layout=layout)
        for number in range(25):
            output.mux(stream.encode(av.VideoFrame.from_image(grey_image(number))))
        output.mux(stream.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, rate * len(sound.layout.channels)), np.int16), "s16", layout)
        samples.sample_rate, samples.pts = rate, 0
        output.mux(sound.encode(samples))
        output.mux(sound.encode(None))
    return path


@pytest.mark.parametrize(
    ("source", "codec", "rate", "layout", "target", "found"),
    [
        ("a.mkv", "pcm_s24le", 96000, "stereo", "out.mp4", "aac"),  # Matroska has no layout of PCM, which MP4 needs
        ("a.mkv", "pcm_s16le", 48000, "7.1", "out.mp4", "aac"),
        ("a.mkv", "pcm_s16le", 192000, "mono", "out.webm", "opus"),
        ("a.mkv", "flac", 192000, "stereo", "out.mov", "aac"),
        ("a.mkv", "libopus", 48000, "stereo", "out.mov", "aac"),
        ("a.avi", "adpcm_ms", 22050, "mono", "out.mkv", "ac3 vorbis"),  # which depends on the FFmpeg
        ("a.mov", "pcm_mulaw", 8000, "mono", "out.mkv", "ac3 vorbis"),
        ("a.mkv", "pcm_s16le", 44100, "stereo", "out.mov", "pcm_s16le"),
    ],
)
def test_sound_is_encoded_anew_where_the_format_refuses_its_rate_its_channels_or_its_codec(
    tmp_path, source, codec, rate, layout, target, found
):
    times, _ = copied(write_sounding(tmp_path / source, codec, rate, layout), tmp_path / target)
    assert len(times) == 25
    with av.open(str(tmp_path / target)) as container:
        assert container.streams.audio[0].codec_context.name.removeprefix("lib") in found.split()
        ends = [frame.time + frame.samples / frame.sample_rate for frame in container.decode(audio=0)]
    assert ends[-1] == pytest.approx(1, abs=0.1)


def test_sound_that_no_encoder_takes_is_left_out_with_a_warning(tmp_path, monkeypatch, caplog):
    clip = write_sounding(tmp_path / "a.mkv", "flac", 48000, "stereo")

    def refuse(output, sound):
        raise ValueError("such channels cannot be encoded")

    monkeypatch.setattr(audio, "_encoder", refuse)
    assert len(copied(clip, tmp_path / "out.mov")[0]) == 25
    with av.open(str(tmp_path / "out.mov")) as container:
        assert not container.streams.audio
    assert "a.mkv is saved without its sound: such channels cannot be encoded" in caplog.text


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.webm"])
def test_the_sound_of_joined_files_goes_on(tmp_path, name):
    part = write_clip(tmp_path / "a.ts", 50, audio="aac").read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    times, _ = copied(tmp_path / "joined.ts", tmp_path / name)
    assert len(times) == 100
    assert times[-1] - times[0] == pytest.approx(99 / FPS, abs=0.002)
    with av.open(str(tmp_path / name)) as container:
        ends = [frame.time + frame.samples / frame.sample_rate for frame in container.decode(audio=0)]
    assert ends[-1] - times[0] == pytest.approx(4, abs=0.1)


def test_damaged_sound_is_left_out_and_the_video_is_saved(tmp_path):
    content = bytearray(write_clip(tmp_path / "a.ts", 50, audio="aac").read_bytes())
    middle = len(content) // 2 // 188 * 188
    content[middle : middle + 40 * 188] = bytes(40 * 188)
    (tmp_path / "damaged.ts").write_bytes(content)
    times, _ = copied(tmp_path / "damaged.ts", tmp_path / "out.mp4")
    assert len(times) > 25
    assert sound_packets(tmp_path / "out.mp4")


def test_sound_that_cannot_be_opened_is_an_error_of_the_output(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 3, audio="aac")
    with open_video(clip) as video, VideoWriter(tmp_path / "out.mp4", video) as writer:
        frame = next(iter(video))
        video.source = str(tmp_path / "gone.mp4")
        with pytest.raises(OutputError, match=r"out\.mp4 with the sound of the video: found .* no such file"):
            writer.write(frame.seconds, frame.image)
    assert [path.name for path in tmp_path.iterdir() if path.name != "a.mp4"] == []


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_sound_of_a_part_begins_and_ends_with_its_frames(tmp_path, name):
    clip = write_clip(tmp_path / "a.mp4", 75, audio="aac")
    times, images = copied(clip, tmp_path / name, start_s=1, duration_s=1)
    assert times == [round(i / FPS, 3) for i in range(25)]
    assert number_of(images[0]) == 25
    with av.open(str(tmp_path / name)) as container:
        ends = [frame.time + frame.samples / frame.sample_rate for frame in container.decode(audio=0)]
    assert len(ends) > 30
    assert ends[-1] == pytest.approx(1, abs=0.05)


def test_every_other_frame_has_the_whole_sound(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 24, audio="aac")
    times, _ = copied(clip, tmp_path / "out.mp4", every=2)
    assert times == [round(2 * i / FPS, 3) for i in range(12)]
    assert (
        sound_packets(tmp_path / "out.mp4")[:-2] == sound_packets(clip)[: len(sound_packets(tmp_path / "out.mp4")) - 2]
    )


@pytest.mark.parametrize("ended_by", [KeyboardInterrupt, ValueError, BrokenPipeError])
def test_what_was_written_before_an_interrupt_is_kept_and_playable(tmp_path, ended_by):
    clip = write_clip(tmp_path / "a.mp4", 25, audio="aac")

    def write_some() -> None:
        with open_video(clip) as video, VideoWriter(tmp_path / "out.mp4", video) as writer:
            for frame in itertools.islice(video, 10):
                writer.write(frame.seconds, frame.image)
            raise ended_by

    with pytest.raises(ended_by):
        write_some()
    times, images = read_clip(tmp_path / "out.mp4")
    assert times == [round(i / FPS, 3) for i in range(10)]
    assert number_of(images[-1]) == 9
    assert len(sound_packets(tmp_path / "out.mp4")) >= 15


def test_sizes_may_be_odd_or_change(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 1)
    with open_video(clip) as video, VideoWriter(tmp_path / "out.mp4", video) as writer:
        for number, size in enumerate([(97, 65), (96, 64), (200, 100), (1, 1)]):
            writer.write(number / FPS, grey_image(5).resize(size))
    _, images = read_clip(tmp_path / "out.mp4")
    assert [image.size for image in images] == [(96, 64)] * 4
    assert [number_of(image) for image in images] == [5] * 4


def test_times_that_do_not_grow_are_moved_on(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 1)
    with open_video(clip) as video, VideoWriter(tmp_path / "out.mp4", video) as writer:
        for seconds in (0.0, 0.0, 0.04):
            writer.write(seconds, grey_image(1))
    assert len(read_clip(tmp_path / "out.mp4")[0]) == 3


def test_without_a_frame_there_is_no_file_and_an_old_one_stays(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 1)
    (tmp_path / "out.mp4").write_bytes(b"old")
    with open_video(clip) as video, VideoWriter(tmp_path / "out.mp4", video):
        pass
    assert (tmp_path / "out.mp4").read_bytes() == b"old"


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 3)
    (tmp_path / "out.mp4").write_bytes(b"old")
    with open_video(clip) as video, VideoWriter(tmp_path / "out.mp4", video) as writer:
        writer.write(0, grey_image(0))
        assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert len(read_clip(tmp_path / "out.mp4")[0]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_a_full_disk_removes_the_file_and_is_one_sentence(tmp_path):
    import resource

    clip = write_clip(tmp_path / "a.mp4", 1)
    noise = np.random.default_rng(0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write_much() -> None:
        with open_video(clip) as video, VideoWriter(tmp_path / "out.mp4", video) as writer:
            for number in range(100):
                writer.write(number / FPS, Image.fromarray(noise.integers(0, 255, (240, 320, 3), np.uint8)))

    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*out.mp4: found .*; choose another path"):
            write_much()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("out.gif", UsageError, "found the suffix '.gif', expected .mp4, .m4v, .mov, .mkv, .webm"),
        ("out", UsageError, "found no suffix"),
        ("nowhere/out.mp4", OutputError, "found no directory"),
        ("a.mp4", OutputError, "a.mp4 is the video itself; choose another path"),
        ("link.mp4", OutputError, "link.mp4 is the video itself; choose another path"),
        ("folder.mp4", OutputError, "found a directory"),
    ],
)
def test_paths_that_cannot_be_written_are_refused_at_once(tmp_path, name, kind, words):
    clip = write_clip(tmp_path / "a.mp4", 1)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(clip)
    with open_video(clip) as video, pytest.raises(kind, match=words):
        VideoWriter(tmp_path / name, video)


def test_another_encoder_is_taken_where_x264_is_missing(tmp_path, monkeypatch):
    from detr_onnx.video import writer

    clip = write_clip(tmp_path / "a.mp4", 3)
    monkeypatch.setattr(writer, "H264", (("nonesuch", {}), *writer.H264))
    copied(clip, tmp_path / "out.mp4")
    assert codec_of(tmp_path / "out.mp4")[1] == "h264"
    monkeypatch.setattr(writer, "H264", (("nonesuch", {}),))
    with pytest.raises(OutputError, match="found a PyAV without nonesuch; run pip install av"):
        copied(clip, tmp_path / "other.mp4")
    assert not (tmp_path / "other.mp4").exists()
