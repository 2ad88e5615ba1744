"""Video files made by PyAV: each frame has its own grey, so that a test can tell which one it sees."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 64
FPS = 25
GREY_STEP = 8  # between frames; encoding changes a grey by less than half of it
TICK = Fraction(1, 1000)

UPRIGHT = (1, 0, 0, 1)
MATRICES = {
    "upright": UPRIGHT,
    "90 clockwise": (0, 1, -1, 0),
    "180": (-1, 0, 0, -1),
    "90 counterclockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down mirrored": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transverse": (0, -1, -1, 0),
}
"""Display matrices (a, b, c, d)."""


def grey_of(number: int) -> int:
    """The grey of a frame."""
    return 16 + GREY_STEP * (number % 28)


def number_of(image: Image.Image) -> int:
    """The number of the frame (below 28) that an image shows."""
    return round((float(np.asarray(image).mean()) - 16) / GREY_STEP)


def grey_image(number: int) -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), (grey_of(number),) * 3)


def write_clip(
    path: Path,
    images: int | Sequence[Image.Image] = 12,
    *,
    times_ms: Sequence[int] | None = None,
    codec: str = "libx264",
    audio: str | None = None,
    options: dict[str, str] | None = None,
    gop: int = 12,
    aspect: Fraction = Fraction(1),
) -> Path:
    """A video of these images, or of so many grey frames.

    Args:
        times_ms: of each frame; 40 ms apart if left out.
        audio: the encoder of a tone that is as long as the frames.
        options: of the container.
        gop: frames from one key frame to the next.
        aspect: of a pixel.
    """
    frames = [grey_image(number) for number in range(images)] if isinstance(images, int) else images
    times_ms = times_ms or [round(1000 / FPS * number) for number in range(len(frames))]
    with av.open(str(path), "w", options=options or {}) as output:
        stream = output.add_stream(codec, rate=FPS)
        stream.width, stream.height = frames[0].size if frames else (WIDTH, HEIGHT)
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = TICK
        stream.codec_context.gop_size = gop
        stream.codec_context.sample_aspect_ratio = aspect
        sound = output.add_stream(audio, rate=48000, layout="mono") if audio else None
        output.start_encoding()
        for image, time_ms in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = time_ms, TICK
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None) if frames else [])
        if sound is not None:
            output.mux(sound.encode(tone(len(frames) / FPS)))
            output.mux(sound.encode(None))
    return path


def tone(seconds: float) -> av.AudioFrame:
    """440 Hz, at 48 kHz."""
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(48000 * seconds)) / 48000)
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], "flt", "mono")
    frame.sample_rate, frame.pts = 48000, 0
    return frame


def write_sound(path: Path) -> Path:
    """A file without video."""
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=48000, layout="mono")
        output.mux(sound.encode(tone(0.5)))
        output.mux(sound.encode(None))
    return path


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Sets the display matrix of the only track of an MP4 file, as a phone that is held upright does.

    Source: ISO/IEC 14496-12, 8.3.2: 40 bytes of the track header box, version 0, stand before the matrix.
    """
    a, b, c, d = (value << 16 for value in matrix)
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def read_clip(path: Path) -> tuple[list[float], list[Image.Image]]:
    """Times and images of a file, read by PyAV alone."""
    with av.open(str(path)) as container:
        frames = [*container.decode(video=0)]
    return [round(float(frame.time), 3) for frame in frames], [frame.to_image() for frame in frames]


def sound_packets(path: Path) -> list[bytes]:
    """The packets of a file's sound."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]
