"""Decoding: packets to frames with their times, upright and in RGB; which of them are wanted."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from detr_onnx.errors import UsageError
from detr_onnx.image.limits import MAX_PIXELS, check_pixels
from detr_onnx.video.pyav import import_av

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_BAD_READS = 100  # in a row, before a file counts as ended
SAME_TIME_S = 1e-6
JUMP_BACK_S = 0.5  # from which times that fall are those of another recording
TRANSPOSES = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""The transpose for the signs of a display matrix (a, b, c, d), which shows a pixel (x, y) at (ax + cy, bx + dy)."""
SWAPPING = frozenset(t for (a, _, _, _), t in TRANSPOSES.items() if a == 0)
"""The transposes that swap width and height."""


class Frame(NamedTuple):
    """A frame before detection.

    Attributes:
        frame_index: its number in the stream, from 0 at the first frame that is read.
        seconds: its time.
        image: upright, in RGB.
    """

    frame_index: int
    seconds: float
    image: Image.Image


@dataclass
class Counts:
    """What has been read so far.

    Attributes:
        frames: decoded, whether they were wanted or not.
        dropped: frames of a live stream that were replaced by a newer one before they were used.
        damaged: packets that could not be decoded, and frames that the decoder found damaged; all were skipped.
        reconnects: how often a live stream was connected again.
    """

    frames: int = 0
    dropped: int = 0
    damaged: int = 0
    reconnects: int = 0


@dataclass(frozen=True)
class Selection:
    """Which frames are wanted.

    Attributes:
        every: only each n-th frame.
        fps: at most so many frames a second, evenly in time; it replaces `every`.
        start_s: time of the first frame.
        duration_s: length of the wanted part in seconds; None for all.

    Raises:
        UsageError: a number is out of range, or `every` and `fps` are both given.
    """

    every: int = 1
    fps: float | None = None
    start_s: float = 0.0
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.every <= 1e9:
            raise UsageError("every is wrong", found=str(self.every), expected="a number of frames from 1 up")
        if self.fps is not None and not 0 < self.fps <= 1e6:
            raise UsageError("fps is wrong", found=str(self.fps), expected="frames a second, more than 0")
        if self.fps is not None and self.every != 1:
            raise UsageError("every and fps cannot be combined", remedy="choose one of them")
        if not 0 <= self.start_s <= 1e9:
            raise UsageError("the start is wrong", found=str(self.start_s), expected="seconds from 0 up")
        if self.duration_s is not None and not 0 < self.duration_s <= 1e9:
            raise UsageError("the duration is wrong", found=str(self.duration_s), expected="seconds, more than 0")

    def frame_s(self, source_frame_s: float) -> float:
        """How long a wanted frame is shown on average, in seconds, from the same figure of all frames."""
        step_s = source_frame_s * self.every
        return max(step_s, 1 / self.fps) if self.fps is not None else step_s

    @property
    def end_s(self) -> float | None:
        """The time at which the wanted part ends."""
        return None if self.duration_s is None else self.start_s + self.duration_s


class Chooser:
    """Chooses the frames of one stream, which come in order."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._slot = -1  # of the last chosen frame, in steps of 1 / fps

    def is_before(self, seconds: float) -> bool:
        return seconds < self._selection.start_s - SAME_TIME_S

    def is_after(self, seconds: float) -> bool:
        end_s = self._selection.end_s
        return end_s is not None and seconds >= end_s - SAME_TIME_S

    def is_wanted(self, index: int, seconds: float) -> bool:
        if self._selection.fps is None:
            return index % self._selection.every == 0
        slot = int((seconds - self._selection.start_s + SAME_TIME_S) * self._selection.fps)
        if slot <= self._slot:
            return False
        self._slot = slot
        return True


def decoded(container: InputContainer, stream: VideoStream, counts: Counts) -> Iterator[av.VideoFrame]:
    """The frames in the order in which they are shown. What cannot be decoded is counted and skipped.

    Raises:
        av.error.FFmpegError: nothing more can be read.
    """
    errors = import_av().error
    for packet in _packets(container, stream, counts):
        try:
            frames = packet.decode()
        except errors.FFmpegError:
            counts.damaged += 1
        else:
            yield from frames


def _packets(container: InputContainer, stream: VideoStream, counts: Counts) -> Iterator[av.Packet]:
    """The packets of the stream, and an empty one at the end; reading goes on behind damage."""
    errors = import_av().error
    failures = 0
    while failures < MAX_BAD_READS:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
        except errors.InvalidDataError:
            failures += 1
            counts.damaged += 1
        else:
            return


class Upright:
    """Converts the frames of one stream to upright RGB images.

    Args:
        name: of the stream, for messages.

    Attributes:
        swaps_sides: whether the last frame was turned by a quarter.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._rotation: int | None = None
        self._transpose: Image.Transpose | None = None

    @property
    def swaps_sides(self) -> bool:
        return self._transpose in SWAPPING

    def __call__(self, frame: av.VideoFrame) -> Image.Image:
        """The frame in RGB, turned as its display matrix says.

        Raises:
            ImageTooLargeError: it has more pixels than an image may have.
        """
        check_pixels(frame.width, frame.height, self._name, MAX_PIXELS)
        if frame.rotation != self._rotation:  # reading the matrix of each frame would make each a reference cycle
            self._rotation, self._transpose = frame.rotation, transpose_of(frame)
        image = Image.fromarray(frame.to_ndarray(format="rgb24"))
        return image if self._transpose is None else image.transpose(self._transpose)


def transpose_of(frame: av.VideoFrame) -> Image.Transpose | None:
    """What makes the frame upright; None if it is. Angles between the quarters go to the nearest one.

    Source: libavutil/display.h. The matrix is nine 32-bit integers: a, b, u, c, d, v, x, y, w.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    is_upright = abs(a) >= abs(b)
    return TRANSPOSES.get((_sign(a), 0, 0, _sign(d)) if is_upright else (0, _sign(b), _sign(c), 0))


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


class FrameTimes:
    """The times of the frames of a file, in the order in which they are shown, so they never fall.

    A frame without a time follows the one before it at the average distance. So does the first frame after a jump back:
    MPEG-TS files that were joined begin again. AVI has the times of decoding alone, which are in order for the packets
    of H.264 with B-frames, and not for their frames (see `guess_correct_pts` in libavcodec/decode.c).

    Args:
        origin_s: the file's time that is 0.
        step_s: the average distance.
    """

    def __init__(self, origin_s: float, step_s: float) -> None:
        self._shift_s, self._step_s = -origin_s, step_s
        self._last_s: float | None = None
        self._own_s: float | None = None
        self._decoding_s: float | None = None
        self._is_decoding = False

    def __call__(self, frame: av.VideoFrame) -> float:
        """The time of the next frame in seconds."""
        own_s, decoding_s = time_of(frame), _seconds(frame, frame.dts)
        if _falls(self._own_s, own_s) and _falls(decoding_s, self._decoding_s):
            self._is_decoding = True
        self._own_s, self._decoding_s = own_s, decoding_s
        self._last_s = self._next_s(decoding_s if self._is_decoding else own_s)
        return self._last_s

    def _next_s(self, own_s: float | None) -> float:
        follows_s = 0.0 if self._last_s is None else self._last_s + self._step_s
        if own_s is None:
            return follows_s
        if self._last_s is None:
            return own_s + self._shift_s
        if own_s + self._shift_s < self._last_s - JUMP_BACK_S:
            self._shift_s = follows_s - own_s
        return max(own_s + self._shift_s, self._last_s)


def _falls(before_s: float | None, after_s: float | None) -> bool:
    return before_s is not None and after_s is not None and after_s < before_s


def time_of(frame: av.VideoFrame) -> float | None:
    """The frame's time in its stream, in seconds; None if it has none."""
    return _seconds(frame, frame.pts)


def _seconds(frame: av.VideoFrame, ticks: int | None) -> float | None:
    return None if ticks is None or frame.time_base is None else float(ticks * frame.time_base)


def frame_seconds(stream: VideoStream) -> float:
    """How long a frame of the stream is shown on average; 1/25 s if the file does not say."""
    rate = stream.average_rate or stream.guessed_rate
    return float(1 / rate) if rate else 0.04
