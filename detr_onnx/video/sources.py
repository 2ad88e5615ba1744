"""What a video argument is: a file, a URL or a camera; how it is opened, and its name in messages and rows."""

from __future__ import annotations

import os
import re
import stat
import sys
from urllib.parse import urlsplit

from detr_onnx.paths import is_directory

VIDEO_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".wmv"),
    *(".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m", ".ivf", ".mjpeg", ".mjpg"),
    *(".h264", ".264", ".h265", ".265", ".hevc"),
}
LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "srt", "rtp", "udp", "tcp"})
WEB_SCHEMES = frozenset({"http", "https"})  # a file if its length is known, else live
CAMERA = re.compile(r"/dev/video\d+")
V4L2_MAJOR = 81  # of a character device, in Linux's Documentation/admin-guide/devices.txt

UNESCAPED_PASSWORD = re.compile(r"\w+://[^/?#:@]*:(?![0-9]*(?:[/?#]|$))(.+)@")
"""Of a URL that urlsplit finds no password in. A port before the path, as in rtsp://camera:554/user@home, is none."""

SECRET = re.compile(
    r"([?&;/_](?:password|passwd|pass|pwd|token|secret|api_?key|auth|signature|sig)=).+?(?=[&;#]|_[a-z]+=|$)",
    re.IGNORECASE,
)
"""In the path or the query of a camera's URL, as in ?user=a&pwd=b, or /user=a_password=b_channel=1."""

RTSP_OPTIONS = {"rtsp_flags": "prefer_tcp"}  # UDP loses packets; where TCP is not offered, UDP is used
LIVE_OPTIONS = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "500000", "fpsprobesize": "4"}
"""Frames are not held back, and opening looks at half a second of the stream in place of five."""


def is_video(argument: str) -> bool:
    """Whether an argument of `detect` names a video: by its suffix, as a URL or as a camera."""
    if url_scheme(argument):
        return not argument.lower().split("?")[0].endswith((".jpg", ".jpeg", ".png", ".webp"))
    suffix = os.path.splitext(argument)[1].lower()  # noqa: PTH122 - may be longer than a path can be
    return is_camera(argument) or (suffix in VIDEO_SUFFIXES and not is_directory(argument))


def url_scheme(source: str) -> str:
    """The scheme of a URL that can be read, such as "rtsp"; empty for a path."""
    scheme = source.split("://", 1)[0].lower() if "://" in source else ""
    return scheme if scheme in LIVE_SCHEMES | WEB_SCHEMES else ""


def is_camera(source: str) -> bool:
    """Whether this is a V4L2 device, under any name; or would be one if it were plugged in."""
    try:
        state = os.stat(source)  # noqa: PTH116 - as splitext
    except (OSError, ValueError):
        return bool(CAMERA.fullmatch(source))
    return sys.platform == "linux" and stat.S_ISCHR(state.st_mode) and os.major(state.st_rdev) == V4L2_MAJOR


def is_live(source: str) -> bool:
    """Whether frames come at their own pace, and wait for nobody."""
    return url_scheme(source) in LIVE_SCHEMES or is_camera(source)


def input_arguments(source: str) -> tuple[str, str | None, dict[str, str]]:
    """The name, the format and the options that libav opens the source with."""
    scheme = url_scheme(source)
    if is_camera(source):
        return source, "v4l2", LIVE_OPTIONS
    if scheme in ("rtsp", "rtsps"):
        return source, None, LIVE_OPTIONS | RTSP_OPTIONS
    if scheme:
        return source, None, LIVE_OPTIONS if scheme in LIVE_SCHEMES else {}
    return f"file:{source}", None, {}  # or a name such as "12:30.mp4" would be taken for a URL


def shown_name(source: str) -> str:
    """The source without the passwords in a URL, which must not get into logs and results."""
    if not url_scheme(source):
        return source
    password = _password(source)
    return SECRET.sub(r"\1***", source.replace(f":{password}@", ":***@", 1) if password else source)


def _password(url: str) -> str | None:
    """The password in a URL; also one with characters that a URL cannot have there, such as "/", as it was typed."""
    try:
        password = urlsplit(url).password
    except ValueError:  # such as an unfinished IPv6 address
        password = None
    match = UNESCAPED_PASSWORD.match(url) if password is None else None
    return match[1] if match else password
