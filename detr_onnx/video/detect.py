"""Detects in the frames of a video: the next ones of a file are prepared while the network runs, and none is left out.

Of a live stream, the newest frame is taken whenever the network is free.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from PIL import Image

from detr_onnx.detections import Detections
from detr_onnx.errors import UsageError
from detr_onnx.read_ahead import read_ahead
from detr_onnx.video.file import VideoFile
from detr_onnx.video.frames import Frame
from detr_onnx.video.live import LiveVideo
from detr_onnx.video.open import Video, VideoSource, open_video
from detr_onnx.video.track import Tracker

T = TypeVar("T")


class VideoFrame(NamedTuple):
    """A frame with its detections: `frame_index, seconds, image, detections`.

    Attributes:
        frame_index: its number in the stream, from 0 at the first frame that is read.
        seconds: its time: in a file from its beginning, in a live stream since the first frame.
        image: upright, in RGB.
        detections: what is in it; if it is tracked, with `track_ids`.
    """

    frame_index: int
    seconds: float
    image: Image.Image
    detections: Detections


Frames = Generator[VideoFrame, None, None]


class Steps(Protocol):
    """The methods of a `Detector` that are used here; they are described there."""

    def preprocess(self, images: Iterable[Any], /) -> tuple[Any, Any, Any]: ...
    def network(self, pixels: Any, mask: Any, /) -> tuple[Any, Any]: ...
    def postprocess(self, logits: Any, boxes: Any, sizes_hw: Any, threshold: float, /) -> list[Detections]: ...


class OwnedVideo(NamedTuple):
    """A video, and whether it is closed when its frames end."""

    video: Video
    is_ours: bool


def opened(
    source: VideoSource | Video, *, every: int, fps: float | None, start_s: float, duration_s: float | None
) -> OwnedVideo:
    """Opens a video by its name, or takes one that is open already, which stays open afterwards.

    Raises:
        VideoError, MissingPackageError: as `open_video`.
        UsageError: options for a video that is open already.
    """
    if not isinstance(source, VideoFile | LiveVideo):
        return OwnedVideo(open_video(source, every=every, fps=fps, start_s=start_s, duration_s=duration_s), True)
    if (every, fps, start_s, duration_s) != (1, None, 0.0, None):
        raise UsageError("this video is open already", remedy="pass the options to open_video")
    return OwnedVideo(source, False)


def detect_frames(
    steps: Steps, opened_video: OwnedVideo, threshold: float, track: bool
) -> Generator[VideoFrame, None, None]:
    """Each wanted frame with its detections.

    Args:
        steps: of the detector.
        opened_video: see `opened`.
        threshold: in 0..1; scores must be strictly greater.
        track: whether to add track ids.

    Raises:
        MissingPackageError: there is no tracker.
    """
    video, is_ours = opened_video
    tracker = Tracker(video, threshold) if track else None
    return _detect_frames(steps, video, threshold, tracker, is_ours)


def _detect_frames(steps: Steps, video: Video, threshold: float, tracker: Tracker | None, is_ours: bool) -> Frames:
    frames = iter(video)

    def next_prepared(number: int) -> tuple[Frame, tuple[Any, Any, Any]] | None:
        frame = next(frames, None)
        return None if frame is None else (frame, steps.preprocess([frame.image]))

    try:
        with contextlib.closing(_prepared(next_prepared, video.live)) as prepared:
            for (index, seconds, image), (pixels, mask, sizes_hw) in prepared:
                detections = steps.postprocess(*steps.network(pixels, mask), sizes_hw, threshold)[0]
                yield VideoFrame(index, seconds, image, tracker(detections) if tracker else detections)
    finally:
        if is_ours:
            video.close()


def _prepared(next_prepared: Callable[[int], T | None], is_live: bool) -> Generator[T, None, None]:
    """What the function returns, until it returns None. Unless the video is live, it is called ahead, in a thread."""
    if is_live:
        yield from iter(lambda: next_prepared(0), None)
        return
    with contextlib.closing(read_ahead(next_prepared, itertools.count())) as results:
        for _, result in results:
            if result is None:
                return
            yield result
