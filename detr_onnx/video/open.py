"""Opens a video by its name."""

from __future__ import annotations

import os
import sys

from detr_onnx.arguments import integer_of
from detr_onnx.errors import UsageError, VideoError
from detr_onnx.video.file import VideoFile
from detr_onnx.video.frames import Selection
from detr_onnx.video.live import LiveVideo, Reconnection
from detr_onnx.video.sources import WEB_SCHEMES, is_camera, is_live, url_scheme

Video = VideoFile | LiveVideo
VideoSource = str | os.PathLike[str] | int


def open_video(
    source: VideoSource,
    *,
    every: int = 1,
    fps: float | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
    reconnection: Reconnection | None = None,
) -> Video:
    """The frames of a video file, a stream or a camera.

    Args:
        source: a path, a URL (rtsp, rtmp, srt, udp, http, …), or a camera: "/dev/video0", or its number.
        every: take every n-th frame.
        fps: at most this many frames per second, in place of `every`.
        start_s: start at this time of a file.
        duration_s: stop after this many seconds.
        reconnection: how to reconnect a live stream; its `timeout_s` also applies to files of a web server.

    Returns:
        A `VideoFile`, which has every frame in order, or a `LiveVideo`, which always has the newest. Both yield
        `Frame(index, seconds, image)`, count what they read in `counts`, and are context managers.

    Raises:
        VideoError: the file cannot be opened, has no video, or no decoder for it; a live stream is opened when its
            first frame is taken; or a camera on a system other than Linux.
        MissingPackageError: PyAV is not installed.
        UsageError: a number is out of range, or the source is not a name.
    """
    name = _name_of(source)
    _check_system(name)
    selection = Selection(every, fps, start_s, duration_s)
    reconnection = reconnection or Reconnection()
    if is_live(name):
        return LiveVideo(name, selection, reconnection)
    file = VideoFile(name, selection, reconnection.timeout_s)
    if url_scheme(name) in WEB_SCHEMES and file.length_s is None:
        file.close()
        return LiveVideo(name, selection, reconnection)
    return file


def _name_of(source: VideoSource) -> str:
    """A path or a URL; a number is that of a camera. Raises UsageError for anything else."""
    camera = integer_of(source)
    name = source if camera is None else f"/dev/video{camera}"
    if not isinstance(name, str | os.PathLike):
        found = type(source).__name__
        raise UsageError("the video has a wrong type", found=found, expected="a path, a URL or a camera's number")
    return os.fsdecode(name)


def _check_system(name: str) -> None:
    """Raises VideoError for a camera on another system than Linux."""
    if is_camera(name) and sys.platform != "linux":
        raise VideoError(
            f"cannot open the camera {name}",
            found=f"the system {sys.platform}",
            expected="Linux: cameras are opened by V4L2",
            remedy="publish the camera as a stream, with ffmpeg for example, and give its URL",
        )
