"""A video file: every frame in order, at its own time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from detr_onnx.errors import VideoError
from detr_onnx.text import printable
from detr_onnx.video.frames import (
    SAME_TIME_S,
    Chooser,
    Counts,
    Frame,
    FrameTimes,
    Selection,
    Upright,
    decoded,
    frame_seconds,
)
from detr_onnx.video.pyav import import_av, open_input, video_error, video_stream
from detr_onnx.video.sources import shown_name

if TYPE_CHECKING:
    import av

CUT_SHORT_S = 1.0  # a file that ends earlier than its stated length by more than this is cut short
MICROSECONDS = 1_000_000  # libav's unit of a file's length

logger = logging.getLogger(__name__)


class VideoFile:
    """The frames of a file, which can be read once. A context manager.

    Args:
        source: a path, or a URL of http.
        selection: which frames are wanted.
        timeout_s: how long a server may be silent.

    Attributes:
        name: the source, without a password.
        counts: what has been read so far.
        frame_s: how long a wanted frame is shown on average, in seconds.
        live: False.

    Raises:
        VideoError: it cannot be opened, has no video, or no decoder for it.
        MissingPackageError: PyAV is not installed.
    """

    live = False

    def __init__(self, source: str, selection: Selection, timeout_s: float) -> None:
        self.source, self.name, self.selection = source, shown_name(source), selection
        self.counts = Counts()
        self._container = open_input(source, timeout_s)
        try:
            self._stream = video_stream(self._container, source)
        except VideoError:
            self._container.close()
            raise
        self._stream.thread_type = "AUTO"
        self.frame_s = selection.frame_s(frame_seconds(self._stream))
        self._origin_s = (self._container.start_time or 0) / MICROSECONDS
        self._upright = Upright(self.name)

    @property
    def length_s(self) -> float | None:
        """The stated length in seconds."""
        duration = self._container.duration
        return None if duration is None else duration / MICROSECONDS

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel over its height, of the frames that have been read."""
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        return 1 / aspect if self._upright.swaps_sides else aspect

    def __iter__(self) -> Iterator[Frame]:
        """The wanted frames.

        Raises:
            VideoError: there are no frames, or the file cannot be read further.
        """
        errors = import_av().error
        try:
            yield from self._frames()
        except errors.FFmpegError as error:
            raise video_error(self.source, error) from error

    def _frames(self) -> Iterator[Frame]:
        chooser = Chooser(self.selection)
        seconds = -1.0
        for frame, seconds in self._timed():
            if chooser.is_before(seconds):
                continue
            if chooser.is_after(seconds):
                return
            if frame.is_corrupt:
                self.counts.damaged += 1
                continue
            index = self.counts.frames
            self.counts.frames += 1
            if chooser.is_wanted(index, seconds):
                yield Frame(index, seconds, self._upright(frame))
        self._check_end(seconds)

    def _timed(self) -> Iterator[tuple[av.VideoFrame, float]]:
        """Each frame with its time."""
        if self.selection.start_s > 0:
            self._seek()
        times = FrameTimes(self._origin_s, frame_seconds(self._stream))
        for frame in decoded(self._container, self._stream, self.counts):
            yield frame, times(frame)

    def _seek(self) -> None:
        """Goes to the key frame before the start. A file that cannot is read from its beginning."""
        errors = import_av().error
        try:
            self._container.seek(round((self.selection.start_s + self._origin_s) * MICROSECONDS), backward=True)
        except errors.FFmpegError as error:
            logger.debug("%s: cannot seek: %s", printable(self.name), error)

    def _check_end(self, last_s: float) -> None:
        """Raises VideoError if the file has ended without a frame; logs a warning if it has ended too early."""
        stream = self._stream
        damaged = f"{self.counts.damaged} damaged packets" if self.counts.damaged else None
        if not self.counts.frames:
            if self.selection.start_s > 0 and last_s >= 0:
                found = f"its last frame at {last_s:.3f} s"
                raise VideoError(f"{self.name} has no frames from {self.selection.start_s:g} s on", found=found)
            raise VideoError(f"{self.name} has no frames", found=damaged, remedy="get the file again")
        if stream.duration is not None and stream.time_base is not None:
            stated_s = float(((stream.start_time or 0) + stream.duration) * stream.time_base) - self._origin_s
            if last_s + frame_seconds(stream) < stated_s - CUT_SHORT_S - SAME_TIME_S:
                name = printable(self.name)
                logger.warning("%s is cut short: its frames end at %.3f of %.3f s", name, last_s, stated_s)

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
