"""What is a video argument, and how it is named."""

from __future__ import annotations

import os

import pytest

from detr_onnx.video.sources import input_arguments, is_camera, is_live, is_video, shown_name


@pytest.mark.parametrize(
    "argument",
    ["a.mp4", "A.MOV", "deep/a.webm", "a.mkv", "rtsp://host/live", "RTSP://host/live", "http://host/a.mp4",
     "https://host/stream?a.jpg", "/dev/video0", "/dev/video12", "udp://239.0.0.1:1234"],
)  # fmt: skip
def test_these_are_videos(argument):
    assert is_video(argument)


@pytest.mark.parametrize(
    "argument",
    ["a.jpg", "a.gif", "a.webp", "a.apng", "-", "photos/", "mp4", "*.jpg", "/dev/stdin", "/dev/video", "file:///a.jpg",
     "http://host/a.jpg", "HTTP://host/A.JPG?a", "x" * 10_000, "nul\0", ""],
)  # fmt: skip
def test_these_are_not(argument):
    assert not is_video(argument)


def test_a_directory_is_not_a_video_whatever_its_name(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    assert not is_video(str(tmp_path / "a.mp4"))


def test_streams_and_cameras_are_live_and_files_are_not():
    assert is_live("rtsp://host/live")
    assert is_live("/dev/video0")
    assert not is_live("a.mp4")
    assert not is_live("http://host/a.mp4")


def test_a_camera_is_one_under_any_name(tmp_path, monkeypatch):
    class Camera:
        st_mode, st_rdev = 0o20660, os.makedev(81, 0)

    monkeypatch.setattr(os, "stat", lambda path: Camera)
    assert is_camera("/dev/v4l/by-id/usb-camera")
    monkeypatch.undo()
    assert not is_camera("/dev/null")


def test_rtsp_goes_over_tcp_where_that_is_offered():
    name, format_name, options = input_arguments("rtsp://host/live")
    assert (name, format_name, options["rtsp_flags"]) == ("rtsp://host/live", None, "prefer_tcp")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://admin:secret@host/live", "rtsp://admin:***@host/live"),
        ("rtsp://admin@host/live", "rtsp://admin@host/live"),
        ("rtsp://:secret@host/live", "rtsp://:***@host/live"),
        ("rtsp://a:p:w@host/live", "rtsp://a:***@host/live"),
        ("rtsp://a:p@[::1/live", "rtsp://a:***@[::1/live"),
        ("rtsp://admin:se/cret@host/live", "rtsp://admin:***@host/live"),
        ("http://cam/video.cgi?user=admin&pwd=s3_cret&fps=5", "http://cam/video.cgi?user=admin&pwd=***&fps=5"),
        ("https://cam/live.m3u8?Token=abc#t", "https://cam/live.m3u8?Token=***#t"),
        ("rtsp://cam/user=a_password=s3cret_channel=1.sdp", "rtsp://cam/user=a_password=***_channel=1.sdp"),
        ("rtsp://a:b@cam/x?password=c", "rtsp://a:***@cam/x?password=***"),
        ("http://cam/compass=1?passage=2&token=", "http://cam/compass=1?passage=2&token="),
        ("rtsp://admin:se#cret@host/live", "rtsp://admin:***@host/live"),
        ("rtsp://admin:se?cret@host/live", "rtsp://admin:***@host/live"),
        ("rtsp://host:554/admin@live", "rtsp://host:554/admin@live"),
        ("rtsp://host/a:b@c", "rtsp://host/a:b@c"),
        ("a:b@c.mp4", "a:b@c.mp4"),
    ],
)
def test_a_password_is_not_shown(source, shown):
    assert shown_name(source) == shown
