"""A camera on loopback: the RTSP server of `rtsp_server.py`, started, killed and started again."""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.video.rtsp_server import number_in

SCRIPT = Path(__file__).with_name("rtsp_server.py")
PYTHON = "/usr/bin/python3"  # the system's, which has the bindings that apt installs
PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
START_S = 20.0
PROBE = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
raise SystemExit(not all(Gst.ElementFactory.find(name) for name in ("appsrc", "x264enc", "rtph264pay")))
"""


@functools.cache
def has_rtsp_server() -> bool:
    """Whether GStreamer's RTSP server and what it needs are installed."""
    if shutil.which(PYTHON) is None:
        return False
    return subprocess.run([PYTHON, "-c", PROBE], capture_output=True, check=False).returncode == 0


class Camera:
    """The server at a port of its own.

    Attributes:
        port: it stays the same when the server is started again.
    """

    def __init__(self, width: int = 320, height: int = 240, fps: int = 25) -> None:
        self.port = free_port()
        self._format = [str(number) for number in (width, height, fps)]
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def url(self, name: str = "live") -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            command = [PYTHON, str(SCRIPT), str(self.port), *self._format]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert self._process.stdout
            if self._process.stdout.readline() == "ready\n":
                return
            self.kill()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.2)  # the port may still be in use by the one before

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout
            self._process.stdout.close()
            self._process = None

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def made_at(image: Image.Image) -> float:
    """When a frame of the server was made, in seconds of `time.monotonic`."""
    return number_in(np.asarray(image.convert("L")).tolist()) / 1e6
