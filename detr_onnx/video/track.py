"""Tracking: the same object has the same id in every frame. It is done by ByteTrack of trackers or supervision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from detr_onnx.detections import Detections
from detr_onnx.errors import MissingPackageError
from detr_onnx.video.open import Video

UNTRACKED = -1

Update = Callable[[Any], Any]
"""`supervision.Detections` of the next frame -> the same in any order, or fewer, with `tracker_id`."""


class Tracker:
    """Gives ids to the detections of one video, whose frames come in order.

    Args:
        video: its frame rate is that of the tracker.
        threshold: the score from which a detection can begin a track.

    Raises:
        MissingPackageError: neither package is installed.
    """

    def __init__(self, video: Video, threshold: float) -> None:
        self._video, self._threshold = video, threshold
        self._make = _maker()
        self._update: Update | None = None

    def __call__(self, detections: Detections) -> Detections:
        """The detections of the next frame with `track_ids`; -1 where an object is not tracked."""
        if self._update is None:  # the rate of a live stream is known with its first frame
            self._update = self._make(1 / self._video.frame_s, self._threshold)
        given = detections.to_supervision()
        given.data["row"] = np.arange(len(detections))
        tracked = self._update(given)
        track_ids = np.full(len(detections), UNTRACKED, dtype=np.int64)
        if len(tracked):
            track_ids[tracked.data["row"]] = tracked.tracker_id
        return replace(detections, track_ids=track_ids)


def _maker() -> Callable[[float, float], Update]:
    """A function from a frame rate and a threshold to a tracker of the package that is installed."""
    try:
        from trackers import ByteTrackTracker
    except ImportError:
        try:
            from supervision import ByteTrack
        except ImportError as error:
            what = "tracking needs the package trackers, or supervision below 0.31"
            raise MissingPackageError(what, remedy="run pip install trackers") from error
        return lambda rate, threshold: (
            ByteTrack(frame_rate=max(1, round(rate)), track_activation_threshold=threshold).update_with_detections
        )
    return lambda rate, threshold: (
        ByteTrackTracker(
            frame_rate=rate,
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
            minimum_consecutive_frames=1,
        ).update
    )
