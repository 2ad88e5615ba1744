"""Streams and cameras: the newest frame, dropped ones counted, a lost stream connected again, and nothing hangs.

The streams are those of a real RTSP server; devices are stubs, since there is none where the tests run.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from detr_onnx.errors import UsageError, VideoError
from detr_onnx.video import live
from detr_onnx.video.live import LiveVideo, Reconnection
from detr_onnx.video.open import open_video
from tests.quiet_http import Quiet
from tests.video.clips import grey_image, number_of, write_clip
from tests.video.standin_camera import Camera, free_port, made_at

PATIENT = Reconnection(attempts=50, first_wait_s=0.05, longest_wait_s=0.2, timeout_s=20)
IMPATIENT = Reconnection(attempts=2, first_wait_s=0.01, longest_wait_s=0.02, timeout_s=20)


def take(video: object, count: int) -> list[tuple[int, float]]:
    """Index and time of so many frames."""
    return [(frame.frame_index, frame.seconds) for frame in itertools.islice(iter(video), count)]  # type: ignore[call-overload]


def test_frames_of_a_stream_come_at_once_with_their_times(camera: Camera):
    with open_video(camera.url(), reconnection=PATIENT) as video:
        before = time.monotonic()
        frames = [*itertools.islice(video, 10)]
        times = [made_at(frame.image) for frame in frames]
    assert isinstance(video, LiveVideo)
    assert times == sorted(times)
    assert before - 1 < times[0] < time.monotonic()
    assert frames[0].seconds == 0
    for frame, made in zip(frames, times, strict=True):
        assert frame.seconds == pytest.approx(made - times[0], abs=0.2)


def test_while_somebody_is_busy_frames_are_dropped_and_the_newest_comes_next(camera: Camera):
    with open_video(camera.url(), reconnection=PATIENT) as video:
        frames = iter(video)
        next(frames)
        time.sleep(0.5)
        before = video.counts.frames
        frame = next(frames)
        counts = video.counts
    assert frame.frame_index >= before - 1 > 2
    assert counts.dropped >= frame.frame_index - 1
    assert counts.damaged == 0


@pytest.mark.parametrize("options", [{"every": 5}, {"fps": 5}])
def test_frames_that_are_not_wanted_are_not_dropped(camera: Camera, options):
    with open_video(camera.url(), reconnection=PATIENT, **options) as video:
        indices = [index for index, _ in take(video, 3)]
    assert video.frame_s == pytest.approx(0.2)
    assert all(4 <= later - earlier <= 6 for earlier, later in itertools.pairwise(indices))  # times jitter
    assert video.counts.dropped == 0


def test_a_stream_ends_after_the_wanted_duration(camera: Camera):
    with open_video(camera.url(), duration_s=0.3, reconnection=PATIENT) as video:
        frames = take(video, 1000)
    assert 1 <= len(frames) <= 8
    assert all(seconds < 0.3 for _, seconds in frames)


def test_a_camera_that_is_switched_off_and_on_is_connected_again(camera: Camera, caplog):
    with open_video(camera.url(), reconnection=PATIENT) as video:
        frames = iter(video)
        first = [next(frames) for _ in range(5)]
        camera.kill()
        threading.Timer(0.3, camera.start).start()
        rest = [*itertools.islice(frames, 30)]
    times = [frame.seconds for frame in [*first, *rest]]
    assert times == sorted(times)
    assert [frame.frame_index for frame in [*first, *rest]] == sorted({f.frame_index for f in [*first, *rest]})
    gap_s = made_at(rest[-1].image) - made_at(first[-1].image)
    assert times[-1] - times[4] == pytest.approx(gap_s, abs=1)
    assert video.counts.reconnects >= 1
    assert "connecting again in 0.1 s" in caplog.text


def test_a_camera_that_vanishes_is_an_error_after_some_attempts(camera: Camera, caplog):
    with open_video(camera.url(), reconnection=IMPATIENT) as video:
        frames = iter(video)
        next(frames)
        camera.kill()
        with pytest.raises(
            VideoError, match=r"is gone after [0-9]+ frames: found connection refused; check the camera"
        ):
            list(frames)
    assert video.counts.reconnects == IMPATIENT.attempts


def test_a_stream_that_is_closed_while_it_waits_was_not_connected_again(camera: Camera, caplog):
    with open_video(camera.url(), reconnection=Reconnection(first_wait_s=30)) as video:
        frames = iter(video)
        next(frames)
        camera.kill()
        deadline = time.monotonic() + 20
        while "connecting again" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "connecting again in 30.0 s" in caplog.text
    assert video.counts.reconnects == 0


def test_a_camera_that_falls_silent_is_connected_again(camera: Camera, caplog):
    reconnection = Reconnection(first_wait_s=0.05, timeout_s=6)  # opening takes one second on an idle machine
    with open_video(camera.url("silent"), reconnection=reconnection) as video:
        assert any(video.counts.reconnects for _ in video)
    assert "no data in time; connecting again" in caplog.text


def test_a_stream_that_ends_is_connected_again(camera: Camera, caplog):
    with open_video(camera.url("short"), reconnection=PATIENT) as video:
        assert any(video.counts.reconnects for _ in video)
    assert "the connection ended; connecting again" in caplog.text


def test_a_wrong_path_is_an_error_at_once(camera: Camera):
    with pytest.raises(VideoError, match="found 404 Not Found; check the path of the stream"):
        take(open_video(camera.url("nonesuch")), 1)


@pytest.mark.parametrize("scheme", ["rtsp", "tcp"])
def test_a_refused_connection_is_an_error_at_once(scheme):
    with pytest.raises(VideoError, match="found connection refused; check the address and the port"):
        take(open_video(f"{scheme}://127.0.0.1:{free_port()}/live"), 1)


def test_a_server_that_never_answers_is_an_error_in_time():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live"
        with pytest.raises(VideoError, match=f"cannot read {url}: found no answer in time"):
            take(open_video(url, reconnection=Reconnection(timeout_s=0.5)), 1)


def test_no_message_has_the_password(caplog):
    url = f"rtsp://admin:hunter2@127.0.0.1:{free_port()}/live"
    with pytest.raises(VideoError, match=r"rtsp://admin:\*\*\*@127.0.0.1") as raised:
        take(open_video(url), 1)
    assert "hunter2" not in str(raised.value) + caplog.text


# Devices


def test_a_camera_that_is_not_there_is_named():
    with pytest.raises(VideoError, match=r"cannot read /dev/video63: found no such device; plug the camera in"):
        take(open_video("/dev/video63"), 1)


@pytest.mark.parametrize("source", ["/dev/video63", Path("/dev/video63"), 63])
def test_a_device_is_opened_by_v4l2_and_gives_frames(tmp_path, monkeypatch, source):
    clip, asked = write_clip(tmp_path / "a.mp4", 3), []
    real = av.open

    def opened(name, **options):
        asked.append((name, options["format"], options["options"]["fflags"], options["timeout"]))
        return real(str(clip))

    monkeypatch.setattr(av, "open", opened)
    with open_video(source, reconnection=IMPATIENT) as video:
        frames = [*video]
    assert asked[0] == ("/dev/video63", "v4l2", "nobuffer", IMPATIENT.timeout_s)
    assert [number_of(frame.image) for frame in frames] == [frame.frame_index for frame in frames]
    assert frames[-1].frame_index == 2
    assert len(frames) + video.counts.dropped == 3


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), "found no permission; add this user to the group video"),
        (OSError(16, "Device or resource busy"), "found it is in use; end the other program"),
        (OSError(19, "No such device"), "cannot read /dev/video63: found No such device"),
    ],
)
def test_a_device_that_cannot_be_opened_is_one_sentence(monkeypatch, error, words):
    def opened(name, **options):
        raise error

    monkeypatch.setattr(av, "open", opened)
    with pytest.raises(VideoError, match=words):
        take(open_video("/dev/video63"), 1)


@pytest.fixture
def hanging() -> Callable[..., None]:
    """A call that hangs in the operating system until the test ends."""
    ends = threading.Event()
    yield lambda *arguments, **options: ends.wait()  # type: ignore[misc]
    ends.set()


def test_a_device_that_hangs_when_it_is_opened_is_an_error_in_time(monkeypatch, hanging):
    monkeypatch.setattr(av, "open", hanging)
    monkeypatch.setattr(live, "GRACE_S", 0.1)
    monkeypatch.setattr(live, "CLOSE_S", 0.1)
    reconnection = Reconnection(timeout_s=0.1)
    video = open_video("/dev/video63", reconnection=reconnection)
    with video, pytest.raises(VideoError, match="/dev/video63 hangs: found no answer from the device"):
        take(video, 1)


def test_a_device_that_hangs_later_is_an_error_in_time(tmp_path, monkeypatch, hanging):
    clip, real, calls = write_clip(tmp_path / "a.h264", 2), av.open, []  # it has no length, as a stream

    def opened(name, **options):
        calls.append(name)
        return real(str(clip)) if len(calls) == 1 else hanging()

    monkeypatch.setattr(av, "open", opened)
    monkeypatch.setattr(live, "GRACE_S", 0.1)
    monkeypatch.setattr(live, "CLOSE_S", 0.1)
    video = open_video("/dev/video63", reconnection=Reconnection(timeout_s=0.1, first_wait_s=0.01))
    with video, pytest.raises(VideoError, match="/dev/video63 hangs: found no new frame"):
        take(video, 10)


# Numbers


def test_times_go_on_when_the_clock_of_a_camera_is_set_back():
    clock = live._Clock(0.0, first_s=1000.0)
    seconds = [clock.seconds(own_s, elapsed_s) for own_s, elapsed_s in ((1000, 0), (1001, 1.1), (2, 2.1), (3, 3.1))]
    assert seconds == pytest.approx([0, 1, 2.1, 3.1])


def test_waits_double_up_to_the_longest():
    reconnection = Reconnection(first_wait_s=0.5, longest_wait_s=30)
    assert [reconnection.wait_s(failures) for failures in (1, 2, 3, 6, 7, 8, 10_000)] == [0.5, 1, 2, 16, 30, 30, 30]


@pytest.mark.parametrize("options", [{"attempts": -1}, {"first_wait_s": -1.0}, {"timeout_s": 0.0}])
def test_a_reconnection_of_negative_numbers_is_refused(options):
    with pytest.raises(UsageError, match="the reconnection is wrong"):
        Reconnection(**options)


def test_a_stream_has_no_start():
    with pytest.raises(UsageError, match="a live stream cannot start at a given time: found 5 s"):
        open_video("rtsp://127.0.0.1/live", start_s=5)


def test_a_stream_that_is_never_read_can_be_closed():
    with open_video("rtsp://127.0.0.1/live") as video:
        assert video.counts.frames == 0


# The web


class Handler(Quiet, http.server.BaseHTTPRequestHandler):
    """`/a.mp4` is a file; `/mjpeg` is the endless stream of a camera, frame by frame."""

    clip: bytes

    def do_GET(self) -> None:
        if "nothing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        if "mp4" in self.path:
            self.send_header("Content-Length", str(len(self.clip)))
        self.send_header("Content-Type", "video/mp4" if "mp4" in self.path else "multipart/x-mixed-replace;boundary=b")
        self.end_headers()
        with contextlib.suppress(OSError):  # the client leaves
            if "mp4" in self.path:
                self.wfile.write(self.clip)
            for number in itertools.count() if "mjpeg" in self.path else ():
                encoded = io.BytesIO()
                grey_image(number).save(encoded, "JPEG")
                head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(encoded.getvalue())}\r\n\r\n"
                self.wfile.write(head.encode() + encoded.getvalue() + b"\r\n")
                time.sleep(0.02)


@pytest.fixture
def site(tmp_path) -> Iterator[str]:
    """The address of a web server with a video and a camera."""
    Handler.clip = write_clip(tmp_path / "a.mp4", 12, options={"movflags": "faststart"}).read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_file_of_a_web_server_is_a_file(site):
    with open_video(f"{site}/a.mp4") as video:
        assert not video.live
        assert [number_of(frame.image) for frame in video] == [*range(12)]


def test_a_camera_of_a_web_server_is_live(site):
    with open_video(f"{site}/mjpeg", reconnection=PATIENT) as video:
        frames = [*itertools.islice(video, 5)]
    assert video.live
    assert [number_of(frame.image) for frame in frames] == [frame.frame_index % 28 for frame in frames]


def test_a_page_that_is_not_there_is_one_sentence(site):
    with pytest.raises(VideoError, match="found 404 Not Found; check the path of the stream"):
        open_video(f"{site}/nothing")
