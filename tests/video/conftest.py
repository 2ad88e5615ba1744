"""A camera on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.video.standin_camera import Camera, has_rtsp_server


@pytest.fixture(scope="module")
def shared_camera() -> Iterator[Camera]:
    """A camera that stays on."""
    yield from started()


@pytest.fixture
def camera() -> Iterator[Camera]:
    """A camera that a test may switch off."""
    yield from started()


def started() -> Iterator[Camera]:
    pytest.importorskip("av")
    if not has_rtsp_server():
        pytest.skip("needs GStreamer's RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 and its plug-ins")
    with Camera() as camera:
        yield camera
