"""`Detector.video`: frames with their detections, a few at a time; tracked where a tracker is installed."""

from __future__ import annotations

import os
import sys
import threading
import time
import types
import weakref
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detections, Detector
from detr_onnx.errors import MissingPackageError, UsageError, VideoError
from detr_onnx.models.open import demo_image
from detr_onnx.read_ahead import AHEAD
from detr_onnx.video import track
from detr_onnx.video.detect import OwnedVideo, VideoFrame, detect_frames
from detr_onnx.video.frames import Counts
from detr_onnx.video.open import Video, open_video
from tests.video.clips import FPS, number_of, write_clip


@pytest.fixture(scope="module")
def scene_clip(tmp_path_factory):
    """The demo scene, moving to the left."""
    with Image.open(demo_image()) as scene:
        images = [scene.convert("RGB").crop((4 * i, 0, 4 * i + 560, 480)).resize((280, 240)) for i in range(6)]
    return write_clip(tmp_path_factory.mktemp("clips") / "scene.mp4", images)


def test_each_frame_has_the_detections_of_its_image(detector: Detector, scene_clip):
    frames = [*detector.video(scene_clip, 0.7)]
    assert [(index, round(seconds, 3)) for index, seconds, _, _ in frames] == [(i, i / FPS) for i in range(6)]
    for _, _, image, detections in frames:
        alone = detector(image, 0.7)
        assert len(detections) >= 5
        assert np.array_equal(detections.xyxy, alone.xyxy)
        assert detections.labels == alone.labels
        assert detections.track_ids is None


def test_the_options_choose_frames(detector: Detector, scene_clip):
    frames = detector.video(scene_clip, every=2, start_s=0.08, duration_s=0.12)
    assert [round(frame.seconds, 3) for frame in frames] == [0.08, 0.16]


def test_an_open_video_is_read_and_stays_open(detector: Detector, scene_clip):
    with open_video(scene_clip) as video:
        assert len([*detector.video(video)]) == 6
        assert video.counts == Counts(frames=6)
        assert video.length_s == pytest.approx(6 / FPS)
        with pytest.raises(UsageError, match="this video is open already; pass the options to open_video"):
            detector.video(video, every=2)


def test_wrong_arguments_are_refused_before_anything_is_read(detector: Detector, tmp_path):
    with pytest.raises(UsageError, match="the threshold is out of range"):
        detector.video(tmp_path / "a.mp4", 2)
    with pytest.raises(VideoError, match="found no such file"):
        detector.video(tmp_path / "a.mp4")


def test_no_thread_and_no_file_stays_when_reading_stops(detector: Detector, scene_clip):
    before = threading.active_count()
    frames = detector.video(scene_clip)
    next(frames)
    frames.close()
    assert threading.active_count() == before


class Stub:
    """A detector that finds nothing, slowly if it should."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def preprocess(self, images):
        return np.zeros((1, 3, 2, 2), np.float32), np.ones((1, 2, 2), bool), np.array([[2, 2]])

    def network(self, pixels, mask):
        time.sleep(self._seconds)
        return np.zeros((1, 1, 2), np.float32), np.zeros((1, 1, 4), np.float32)

    def postprocess(self, logits, boxes, sizes_hw, threshold):
        return [Detections(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32), ["cat"])]


def detected(video: Video, steps: Stub) -> Iterator[VideoFrame]:
    return detect_frames(steps, OwnedVideo(video, False), 0.5, False)


def test_a_few_frames_exist_at_a_time_however_many_there_are(tmp_path):
    images: list[weakref.ref[Image.Image]] = []
    alive: list[int] = []

    class Watching(Stub):
        def preprocess(self, given):
            images.extend(map(weakref.ref, given))
            alive.append(sum(image() is not None for image in images))
            return super().preprocess(given)

    with open_video(write_clip(tmp_path / "a.mp4", 300)) as video:
        for _ in detected(video, Watching()):
            pass
    assert len(images) == 300
    assert max(alive) <= AHEAD + 4  # one is decoded, one detected in, one in the loop's hands, one just left


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_flat_over_hundreds_of_frames(tmp_path):
    with Image.open(demo_image()) as scene:
        clip = write_clip(tmp_path / "a.mp4", [scene.convert("RGB").resize((320, 240))] * 700)
    resident_mb = {}
    with open_video(clip) as video:
        for frame in detected(video, Stub()):
            if frame.frame_index in (100, 699):
                resident_mb[frame.frame_index] = resident()
    assert resident_mb[699] - resident_mb[100] < GROWTH_MB


GROWTH_MB = 30  # decoders and allocators take some; the 600 frames between would take 138


def resident() -> float:
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_a_slow_detector_gets_the_newest_frame_of_a_stream(tmp_path, monkeypatch):
    """The device is a file that is read as fast as it can be; the reader has ended before the second frame is taken."""
    clip, real = write_clip(tmp_path / "a.mkv", 120), av.open
    monkeypatch.setattr(av, "open", lambda name, **options: real(str(clip)))
    with open_video("/dev/video63") as video:

        class Slow(Stub):
            def network(self, pixels, mask):
                video._reader.join(20)
                return super().network(pixels, mask)

        frames = [*detected(video, Slow())]
    assert frames[-1].frame_index == 119
    assert len(frames) <= 2
    assert video.counts.dropped == 120 - len(frames)


# Tracking


def detections_at(lefts: list[float], scores: list[float] | None = None) -> Detections:
    """Boxes of 40 pixels at these places."""
    xyxy = np.array([[left, 10, left + 40, 50] for left in lefts], np.float32).reshape(-1, 4)
    given = np.array(scores if scores is not None else [0.9] * len(lefts), np.float32)
    return Detections(given, np.zeros(len(lefts), np.int64), xyxy, ["cat"])


def tracker() -> track.Tracker:
    pytest.importorskip("supervision")
    try:
        return track.Tracker(types.SimpleNamespace(frame_s=1 / FPS), 0.5)  # type: ignore[arg-type]
    except MissingPackageError:
        pytest.skip("needs the package trackers")


def ids_of(detections: Detections) -> list[int]:
    assert detections.track_ids is not None
    return detections.track_ids.tolist()


def test_an_object_that_moves_keeps_its_id():
    update = tracker()
    update(detections_at([0, 100, 200]))  # an object may have its id from its second frame on
    first = ids_of(update(detections_at([2, 100, 198])))
    for step in range(2, 20):
        lefts = [200 - 2 * step, 0 + 2 * step, 100]  # in another order, and moving
        assert ids_of(update(detections_at(lefts))) == [first[2], first[0], first[1]]
    assert len(set(first)) == 3
    assert min(first) >= 0


def test_a_new_object_has_a_new_id_and_an_empty_frame_has_none():
    update = tracker()
    update(detections_at([0]))
    old = ids_of(update(detections_at([0])))
    assert ids_of(update(detections_at([]))) == []
    update(detections_at([0, 300]))
    later = ids_of(update(detections_at([0, 300])))
    assert later[0] == old[0]
    assert later[1] not in (old[0], track.UNTRACKED)


def test_every_detection_stays_tracked_or_not():
    update = tracker()
    given = detections_at([0, 100], [0.9, 0.51])
    tracked = update(given)
    assert np.array_equal(tracked.xyxy, given.xyxy)
    assert np.array_equal(tracked.scores, given.scores)


def test_two_videos_do_not_share_their_ids():
    updates = [tracker(), tracker()]
    for update in updates:
        update(detections_at([0]))
    assert ids_of(updates[0](detections_at([0]))) == ids_of(updates[1](detections_at([0])))


def test_tracked_frames_have_ids(detector: Detector, scene_clip):
    tracker()
    frames = [*detector.video(scene_clip, 0.7, track=True)]
    ids = [dict(zip(f.detections.labels, ids_of(f.detections), strict=True)) for f in frames]
    tracked = [label for label in ids[1].keys() & ids[5].keys() if -1 not in (ids[1][label], ids[5][label])]
    assert len(tracked) >= 5  # one whose score falls below the threshold for a frame begins anew
    assert all(ids[1][label] == ids[5][label] for label in tracked)
    assert len({ids[5][label] for label in tracked}) == len(tracked)


def test_supervision_s_own_tracker_is_taken_where_trackers_is_missing(monkeypatch):
    class ByteTrack:
        def __init__(self, frame_rate: int, track_activation_threshold: float) -> None:
            assert (frame_rate, track_activation_threshold) == (FPS, 0.5)

        def update_with_detections(self, detections):
            kept = detections[1:]
            kept.tracker_id = np.array([7])
            return kept

    supervision = pytest.importorskip("supervision")
    monkeypatch.setitem(sys.modules, "trackers", None)
    monkeypatch.setattr(supervision, "ByteTrack", ByteTrack, raising=False)
    assert ids_of(tracker()(detections_at([0, 100]))) == [track.UNTRACKED, 7]


def test_without_a_tracker_the_package_is_named(detector: Detector, scene_clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingPackageError, match=r"tracking needs the package trackers, .*; run pip install trackers"):
        detector.video(scene_clip, track=True)


def test_shown_numbers_are_those_of_the_frames(tmp_path):
    with open_video(write_clip(tmp_path / "a.mp4", 20)) as video:
        frames = [*detected(video, Stub())]
    assert [number_of(frame.image) for frame in frames] == [frame.frame_index for frame in frames] == [*range(20)]
