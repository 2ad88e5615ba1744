"""A stream or a camera: always the newest frame, never a queue of old ones.

A thread, the reader, receives and decodes. It keeps one frame; if the next one comes before that has been taken, it is
replaced and counted as dropped. The reader connects again when the stream is lost. The thread that takes the frames
waits only for a limited time, so a device that hangs inside the operating system is an error, too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from detr_onnx.errors import UsageError, VideoError
from detr_onnx.text import printable
from detr_onnx.video.frames import (
    JUMP_BACK_S,
    Chooser,
    Counts,
    Frame,
    Selection,
    Upright,
    decoded,
    frame_seconds,
    time_of,
)
from detr_onnx.video.pyav import import_av, open_input, reason, video_error, video_stream
from detr_onnx.video.sources import shown_name

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

OPENING_STEPS = 2  # connecting, and reading the first packets; each has the whole timeout
GRACE_S = 5.0  # how much later than its timeouts the reader may be before it counts as hung
CLOSE_S = 1.0  # how long closing waits for the reader
CLOSE_TO_END_S = 1.0  # a stream of known length that stops within this time of its end has ended
MICROSECONDS = 1_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconnection:
    """How a lost stream is connected again.

    Attributes:
        attempts: failed attempts in a row after which the stream counts as lost; a frame resets the count.
        first_wait_s: before the first attempt; each wait is twice as long as the one before.
        longest_wait_s: the limit of the waits.
        timeout_s: how long the stream may be silent, and how long connecting may take.

    Raises:
        UsageError: a number is out of range.
    """

    attempts: int = 10
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 0 or min(self.first_wait_s, self.longest_wait_s) < 0 or self.timeout_s <= 0:
            raise UsageError(
                "the reconnection is wrong", found=str(self), expected="no negative numbers, a timeout above 0"
            )

    def wait_s(self, failures: int) -> float:
        """The wait after so many failures in a row."""
        return min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 30))


class LiveVideo:
    """The frames of a stream or a camera; iterating yields the newest one that has not been seen. A context manager.

    Reading begins with the first iteration.

    Args:
        source: a URL or a device.
        selection: which frames are wanted; its start must be 0.
        reconnection: what happens when the stream is lost.

    Attributes:
        name: the source, without a password.
        counts: what has been read so far.
        frame_s: how long a wanted frame is shown on average, in seconds; known after the first frame.
        live: True.

    Raises:
        VideoError: it cannot be opened, has no video, or no decoder for it.
        MissingPackageError: PyAV is not installed.
        UsageError: the selection has a start.
    """

    live = True
    pixel_aspect = Fraction(1)

    def __init__(self, source: str, selection: Selection, reconnection: Reconnection) -> None:
        if selection.start_s > 0:
            raise UsageError("a live stream cannot start at a given time", found=f"{selection.start_s:g} s")
        import_av()
        self.source, self.name, self.selection = source, shown_name(source), selection
        self.counts = Counts()
        self.frame_s = 0.04
        self._reconnection = reconnection
        self._chooser = Chooser(selection)
        self._upright = Upright(self.name)
        self._changed = threading.Condition()
        self._newest: tuple[int, float, av.VideoFrame] | None = None
        self._error: Exception | None = None
        self._is_done = False
        self._closing = threading.Event()
        self._alive_until = 0.0
        self._first_arrival_s: float | None = None
        self._last_s = 0.0
        self._reader = threading.Thread(target=self._read, name="detr-onnx-live-video", daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        """The newest frame, again and again, until the stream ends.

        Raises:
            VideoError: the stream cannot be opened, or was lost and does not come back.
        """
        if not self._reader.ident:
            self._expect_within(OPENING_STEPS * self._reconnection.timeout_s)
            self._reader.start()
        while (newest := self._wait()) is not None:
            index, seconds, frame = newest
            yield Frame(index, seconds, self._upright(frame))

    def _wait(self) -> tuple[int, float, av.VideoFrame] | None:
        """The newest frame, as soon as there is one; None at the end."""
        with self._changed:
            while self._newest is None and not self._is_done:
                if not self._changed.wait(0.2) and time.monotonic() > self._alive_until:
                    found = "no answer from the device" if self._first_arrival_s is None else "no new frame"
                    raise VideoError(f"{self.name} hangs", found=found, remedy="check that it is connected")
            newest, self._newest = self._newest, None
            if newest is None and self._error is not None:
                raise self._error
            return newest

    # The rest runs in the reader's thread.

    def _expect_within(self, seconds: float) -> None:
        self._alive_until = time.monotonic() + seconds + GRACE_S

    def _read(self) -> None:
        try:
            self._read_and_reconnect()
        except Exception as error:  # noqa: BLE001 - raised in the thread that takes the frames
            self._error = error
        with self._changed:
            self._is_done = True
            self._changed.notify_all()

    def _read_and_reconnect(self) -> None:
        """Reads until the stream ends or is closed.

        Raises:
            VideoError: it cannot be opened, or does not come back.
        """
        errors = import_av().error
        failures = 0
        while not self._closing.is_set():
            frames_before = self.counts.frames
            try:
                if self._read_connection():
                    return
                lost = VideoError(f"{self.name} has ended", found="no more frames")
                why = "the connection ended"
            except VideoError as error:
                lost, why = error, error.found or error.what
            except (errors.FFmpegError, OSError) as error:
                lost = video_error(self.source, error)
                why = reason(self.source, error)[0] or "damaged data"
            if self._first_arrival_s is None:
                raise lost
            failures = 1 if self.counts.frames > frames_before else failures + 1
            if failures > self._reconnection.attempts:
                what = f"{self.name} is gone after {self.counts.frames} frames"
                raise VideoError(what, found=why, remedy="check the camera and the network")
            self._wait_before_attempt(failures, why)

    def _wait_before_attempt(self, failures: int, why: str) -> None:
        wait_s = self._reconnection.wait_s(failures)
        logger.warning("%s: %s; connecting again in %.1f s", printable(self.name), printable(why), wait_s)
        self._expect_within(wait_s + OPENING_STEPS * self._reconnection.timeout_s)
        if not self._closing.wait(wait_s):
            self.counts.reconnects += 1

    def _read_connection(self) -> bool:
        """Reads one connection to its end; returns whether that is the end of the stream, too."""
        timeout_s = self._reconnection.timeout_s
        with open_input(self.source, timeout_s) as container:
            stream = video_stream(container, self.source)
            self.frame_s = self.selection.frame_s(frame_seconds(stream))
            clock = None
            for frame in decoded(container, stream, self.counts):
                self._expect_within(timeout_s)
                if self._closing.is_set():
                    return True
                if frame.is_corrupt:
                    self.counts.damaged += 1
                    continue
                clock = clock or _Clock(self._next_start_s(), time_of(frame))
                if self._take(frame, clock.seconds(time_of(frame), self._elapsed_s())):
                    return True
            return _is_at_end(container, clock)

    def _next_start_s(self) -> float:
        """The time of the first frame of a connection: 0, then by the clock on the wall."""
        return 0.0 if self._first_arrival_s is None else max(self._elapsed_s(), self._last_s + self.frame_s)

    def _elapsed_s(self) -> float:
        """Seconds since the first frame arrived; 0 before."""
        return 0.0 if self._first_arrival_s is None else time.monotonic() - self._first_arrival_s

    def _take(self, frame: av.VideoFrame, seconds: float) -> bool:
        """Puts a frame where the other thread takes it; returns whether the wanted duration is over."""
        if self._first_arrival_s is None:
            self._first_arrival_s = time.monotonic()
        seconds = self._last_s = max(seconds, self._last_s)
        if self._chooser.is_after(seconds):
            return True
        index = self.counts.frames
        self.counts.frames += 1
        if self._chooser.is_wanted(index, seconds):
            with self._changed:
                self.counts.dropped += self._newest is not None
                self._newest = index, seconds, frame
                self._changed.notify_all()
        return False

    def close(self) -> None:
        """Ends the reader. One that hangs in the operating system is left behind; it does not keep the process."""
        self._closing.set()
        if self._reader.ident:
            self._reader.join(CLOSE_S)

    def __enter__(self) -> LiveVideo:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass
class _Clock:
    """Times of one connection, which go on where the connection before ended.

    Attributes:
        start_s: the time of its first frame.
        first_s: that frame's own time; None if it has none.
        last_s: the own time of its last frame.
    """

    start_s: float
    first_s: float | None
    last_s: float = 0.0

    def seconds(self, own_s: float | None, elapsed_s: float) -> float:
        """The time of a frame by its own time; by its arrival if it has none, or if the camera's clock was set back."""
        if own_s is None or self.first_s is None:
            return elapsed_s
        if own_s < self.last_s - JUMP_BACK_S:
            self.start_s, self.first_s = elapsed_s, own_s
        self.last_s = own_s
        return self.start_s + own_s - self.first_s


def _is_at_end(container: InputContainer, clock: _Clock | None) -> bool:
    """Whether a stream of known length has stopped at its end."""
    length_s = (container.duration or 0) / MICROSECONDS
    return clock is not None and length_s > 0 and clock.last_s >= length_s - CLOSE_TO_END_S
