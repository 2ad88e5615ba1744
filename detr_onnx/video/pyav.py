"""PyAV: its import, opening an input, and its errors in plain words."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any

from detr_onnx.errors import MissingPackageError, VideoError
from detr_onnx.text import reason_of
from detr_onnx.video.sources import input_arguments, is_camera, shown_name, url_scheme

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

IMAGE_FORMATS = ("image2", "tty")  # and those that end in _pipe, which read a single image


def import_av() -> Any:
    """The package `av`.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        remedy = "run pip install 'detr-onnx[video]'"
        raise MissingPackageError("videos need the package av (PyAV)", found=str(error), remedy=remedy) from error
    return av


def open_input(source: str, timeout_s: float) -> InputContainer:
    """The opened source. Reading from it raises an error of PyAV after `timeout_s` without data.

    Raises:
        VideoError: it cannot be opened, or does not answer.
    """
    av = import_av()
    _check_readable(source)
    name, format_name, options = input_arguments(source)
    start = time.monotonic()
    try:
        container: InputContainer = av.open(
            name, format=format_name, options=dict(options), timeout=timeout_s, metadata_errors="replace"
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        is_late = time.monotonic() - start >= timeout_s  # libav reports some of these as invalid data
        raise video_error(source, TimeoutError() if is_late else error) from error
    return container


def video_stream(container: InputContainer, source: str) -> VideoStream:
    """The video stream of an opened source.

    Raises:
        VideoError: there is none, or no decoder for it.
    """
    name = shown_name(source)
    if container.format.name.endswith("_pipe") or container.format.name in IMAGE_FORMATS:
        raise VideoError(f"{name} is not a video", found=f"the format {container.format.name.removesuffix('_pipe')}")
    # A cover image of a sound file is a stream too, of one frame without a rate.
    streams = [stream for stream in container.streams.video if stream.average_rate or stream.frames != 1]
    streams = streams or [*container.streams.video]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        found = f"{kinds} only" if kinds else "no streams"
        raise VideoError(f"{name} has no video stream", found=found, expected="a video")
    if streams[0].codec_context is None:
        raise VideoError(
            f"{name} cannot be decoded",
            found="a video codec that this PyAV does not have",
            remedy="convert it to H.264, or install a PyAV whose FFmpeg has the codec",
        )
    return streams[0]


def _check_readable(source: str) -> None:
    """Raises VideoError for a path that is neither a regular file nor a camera: opening a pipe could block."""
    if url_scheme(source) or is_camera(source):
        return
    try:
        mode = os.stat(source).st_mode  # noqa: PTH116
    except (OSError, ValueError) as error:
        raise video_error(source, error) from error
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise VideoError(f"cannot read {shown_name(source)}", found=kind, expected="a file, a URL or a camera")


def video_error(source: str, error: Exception) -> VideoError:
    """The error to show for one of PyAV or of the operating system."""
    name = shown_name(source)
    found, remedy = reason(source, error)
    is_data_error = type(error).__name__ in ("InvalidDataError", "EOFError")
    what = f"{name} is not a video, or is damaged or cut short" if is_data_error else f"cannot read {name}"
    return VideoError(what, found=found, remedy=remedy)


def reason(source: str, error: Exception) -> tuple[str | None, str | None]:
    """What was found, and the remedy."""
    camera = is_camera(source)
    known: dict[str, tuple[str | None, str | None]] = {
        "FileNotFoundError": (
            ("no such device", "plug the camera in, or see which there are: ls /dev/video*")
            if camera
            else ("no such file", "check the path")
        ),
        "PermissionError": (
            ("no permission", "add this user to the group video" if camera else "allow this user to read it")
        ),
        "InvalidDataError": (None, "get the file again" if not url_scheme(source) else "check the address"),
        "EOFError": ("no frame before its end", "get the file again"),
        "ConnectionRefusedError": ("connection refused", "check the address and the port, and that it is running"),
        "HTTPUnauthorizedError": ("a request for a user and a password", "write them as rtsp://USER:PASSWORD@HOST/…"),
        "HTTPForbiddenError": ("403 Forbidden", "check the user and the password"),
        "HTTPNotFoundError": ("404 Not Found", "check the path of the stream"),
        "ExitError": ("no data in time", "check that it is running and can be reached"),
        "TimeoutError": ("no answer in time", "check that it is running and can be reached"),
        "DeviceBusyError": ("it is in use", "end the other program"),
    }
    busy = isinstance(error, OSError) and error.errno == 16  # EBUSY
    name = "DeviceBusyError" if busy else type(error).__name__
    words = reason_of(error).replace(source, shown_name(source))
    return known.get(name, (words, "check the address" if url_scheme(source) else None))
