"""`detr-onnx detect` of videos: a row for each frame, at once; an annotated file; counts; Ctrl-C; bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from detr_onnx.models.open import demo_image
from detr_onnx.video.sources import shown_name
from tests.cli.command_line import complaint, in_a_process, outcome
from tests.video.clips import FPS, read_clip, sound_packets, write_clip
from tests.video.standin_camera import Camera, free_port

pytest.importorskip("onnxruntime")
ENGINE = ["-m", "demo", "--engine", "onnxruntime"]
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="signals there are others")


@pytest.fixture
def clip(album) -> Path:
    """The demo scene, moving, with sound, as clip.mp4 in the working directory."""
    with Image.open(demo_image()) as scene:
        images = [scene.convert("RGB").crop((4 * i, 0, 4 * i + 560, 480)).resize((280, 240)) for i in range(6)]
    return write_clip(Path("clip.mp4"), images, audio="aac")


@pytest.fixture
def detect(album, capsys):
    """Runs `detect` with the demo model; exit status, rows and stderr."""

    def detect(*arguments: object) -> tuple[int, list[dict], str]:
        status, out, err = outcome(["detect", *arguments, *ENGINE], capsys)
        return status, [json.loads(line) for line in out.splitlines()], err

    return detect


@pytest.fixture
def refused(album, capsys):
    def refused(*arguments: object, status: int = 1) -> str:
        return complaint(outcome(["detect", *arguments, *ENGINE], capsys), status)

    return refused


def test_each_frame_is_a_row(detect, clip):
    status, rows, err = detect(clip)
    assert (status, err) == (0, "detr-onnx: clip.mp4: 6 frames, 0 dropped, 0 damaged\n")
    assert [[*row] for row in rows] == [["file", "frame", "seconds", "detections"]] * 6
    assert [(row["file"], row["frame"], row["seconds"]) for row in rows] == [("clip.mp4", i, i / FPS) for i in range(6)]
    assert all(len(row["detections"]) >= 5 for row in rows)
    assert {*rows[0]["detections"][0]} == {"score", "label", "box"}


def test_frames_labels_and_scores_can_be_chosen(detect, clip):
    _, rows, err = detect(
        clip, "--every", "2", "--start", "0.04", "--duration", "0.12", "--labels", "dog", "--format=ndjson"
    )
    assert [row["seconds"] for row in rows] == [0.04, 0.12]
    assert {d["label"] for row in rows for d in row["detections"]} == {"dog"}
    assert "3 frames" in err
    _, rows, _ = detect(clip, "--fps", "5", "--threshold", "1")
    assert [(row["seconds"], row["detections"]) for row in rows] == [(0, []), (0.2, [])]


def test_the_annotated_video_has_the_frames_the_times_and_the_sound(detect, clip):
    status, _, err = detect(clip, "--save", "out.mp4")
    assert (status, err.count("\n")) == (0, 1)
    times, images = read_clip(Path("out.mp4"))
    assert times == [i / FPS for i in range(6)]
    assert sound_packets(Path("out.mp4")) == sound_packets(clip)
    plain = read_clip(clip)[1]
    changed = [
        sum(a != b for a, b in zip(x.tobytes(), y.tobytes(), strict=True)) for x, y in zip(images, plain, strict=True)
    ]
    assert min(changed) > 1000


def test_several_videos_are_detected_in_turn_and_saved_in_a_directory(detect, clip):
    write_clip(Path("b.avi"), 2, codec="mpeg4")
    Path("out").mkdir()
    status, rows, err = detect("clip.mp4", "missing.mp4", "b.avi", "--save", "out")
    assert status == 1
    assert [row["file"] for row in rows] == ["clip.mp4"] * 6 + ["b.avi"] * 2
    assert sorted(path.name for path in Path("out").iterdir()) == ["b.mp4", "clip.mp4"]
    assert "error: cannot read missing.mp4: found no such file; check the path" in err


def test_an_unreadable_video_is_one_line(refused):
    Path("text.mp4").write_text("not a video")
    assert refused("text.mp4") == "text.mp4 is not a video, or is damaged or cut short; get the file again"
    assert refused(f"rtsp://127.0.0.1:{free_port()}/live").endswith("is running")
    assert "found no such device; plug the camera in" in refused("/dev/video63")


def test_a_damaged_video_gives_its_rows_and_counts(detect, clip):
    content = write_clip(Path("long.mp4"), 60, options={"movflags": "faststart"}).read_bytes()
    Path("long.mp4").write_bytes(content[: len(content) * 3 // 4])
    status, rows, err = detect("long.mp4", "--save", "out.mp4")
    assert status == 0
    assert len(read_clip(Path("out.mp4"))[0]) == len(rows) > 0
    assert "long.mp4 is cut short" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["rtsp://127.0.0.1:9/a", "a.png"],
            "images and videos cannot be mixed: found the video rtsp://127.0.0.1:9/a and a.png",
        ),
        (
            ["clip.mp4", "a.png", "--fps", "2"],
            "images and videos cannot be mixed: found the video clip.mp4 and a",
        ),
        (["a.png", "--every", "2"], "--every is for videos: found a.png, expected a file such as clip.mp4"),
        (["a.png", "--track"], "--track is for videos"),
        (["clip.mp4", "--format", "coco"], "a video gives a row for each frame: found --format coco"),
        (["clip.mp4", "--every", "0"], "every is wrong: found 0"),
        (["clip.mp4", "--every", "2", "--fps", "1"], "every and fps cannot be combined"),
        (["clip.mp4", "--every", "1" + "0" * 400], "every is wrong: found 1000"),
        (["clip.mp4", "--shard", "0/2"], "--shard is for images: found clip.mp4"),
        (["clip.mp4", "--batch-files", "5"], "--batch-files is for images: found clip.mp4"),
        (["clip.mp4", "--retry"], "--retry is for images: found clip.mp4"),
        (["clip.mp4", "--threshold", "2"], "the threshold is out of range"),
        (["clip.mp4", "--labels", "unicorn"], "the model has no label 'unicorn'"),
        (["clip.mp4", "--save", "out.gif"], "cannot save a video as out.gif"),
        (["clip.mp4", "b.mp4", "--save", "out.mp4"], "several videos cannot be saved in the one file out.mp4"),
        (["clip.mp4", "deep/clip.mp4", "--save", "."], "two videos would have the same name"),
        (["rtsp://h/a", "rtsp://h/b"], "a live stream does not end: found rtsp://h/a, rtsp://h/b"),
        (["/dev/video0", "--start", "3"], "--start is for files: found /dev/video0"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(refused, clip, arguments, words):
    assert refused(*arguments, status=2).startswith(words)


def test_numbers_are_checked_before_the_model_is_opened(capsys, clip):
    result = outcome(["detect", "clip.mp4", "--fps", "0", "-m", "missing.onnx"], capsys)
    assert complaint(result, 2) == "fps is wrong: found 0.0, expected frames a second, more than 0"


def test_the_video_itself_is_not_overwritten(refused, clip):
    before = clip.read_bytes()
    assert refused(clip, "--save", "clip.mp4").startswith("clip.mp4 is the video itself")
    assert clip.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_another_video_is_not_overwritten_by_a_link_to_it(refused, clip):
    Path("other.mp4").write_bytes(clip.read_bytes())
    Path("out").mkdir()
    Path("out/clip.mp4").symlink_to("../other.mp4")
    before = Path("other.mp4").read_bytes()
    says = refused(clip, "other.mp4", "--save", "out")
    assert says == "--save would overwrite out/clip.mp4, which is also an input; choose another file"
    assert Path("other.mp4").read_bytes() == before


def test_a_video_among_the_images_of_a_directory_is_skipped_and_counted(detect, clip):
    status, rows, err = detect(".")
    assert (status, {row["file"] for row in rows}) == (0, {"a.png", "b.jpg", "deep/c.png"})
    assert "skipped 1 files that are not images: 1 .mp4" in err


def test_an_animated_image_stays_an_image(detect):
    frames = [Image.new("RGB", (32, 32), (value, 0, 0)) for value in (0, 250)]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    status, rows, _ = detect("a.gif")
    assert (status, rows) == (0, [[]])


def test_rows_go_on_where_the_annotated_video_cannot_be_written(detect, clip, monkeypatch):
    from detr_onnx.errors import OutputError
    from detr_onnx.video.writer import VideoWriter

    def fails(self, seconds, image):
        raise OutputError("cannot write out.mp4", found="no space left on device")

    monkeypatch.setattr(VideoWriter, "write", fails)
    status, rows, err = detect(clip, "--save", "out.mp4")
    assert (status, len(rows)) == (1, 6)
    assert err.count("cannot write out.mp4") == 1
    assert not Path("out.mp4").exists()


def test_without_pyav_images_work_and_a_video_names_the_extra(detect, refused, clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert detect("a.png")[0] == 0
    assert "run pip install 'detr-onnx[video]'" in refused(clip)


# Processes


@pytest.fixture
def start(album) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `detect` as a process that Ctrl-C reaches, also where the tests run in the background of a script."""
    processes = []

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        processes.append(in_a_process("detect", *arguments, *ENGINE, **heeding))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        with process:
            pass


@POSIX_ONLY
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_a_playable_file(clip, start, number, status):
    long = write_clip(Path("long.mp4"), 2000, audio="aac")
    process = start(long, "--save", "out.mp4")
    assert process.stdout
    assert process.stderr
    rows = [json.loads(process.stdout.readline()) for _ in range(5)]
    process.send_signal(number)
    rest, err = process.communicate(timeout=60)
    rows += [json.loads(line) for line in rest.splitlines()]
    assert process.returncode == status
    times, _ = read_clip(Path("out.mp4"))
    assert 4 <= len(times) <= len(rows)
    assert times == [row["seconds"] for row in rows[: len(times)]]
    assert b"Traceback" not in err
    assert err.decode().splitlines()[-1].startswith("detr-onnx: long.mp4: ")
    assert [path.name for path in Path.cwd().iterdir() if path.name.startswith(".detr-onnx")] == []


@POSIX_ONLY
def test_a_reader_of_rows_may_stop_reading(clip, start):
    long = write_clip(Path("long.mp4"), 500)
    process = start(long, "--save", "out.mp4")
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    assert (process.wait(60), err.count("\n")) == (0, 1)
    process.stderr.close()
    assert read_clip(Path("out.mp4"))[0]


@POSIX_ONLY
def test_rows_of_a_stream_are_printed_at_once_and_ctrl_c_ends_it(start, camera: Camera):
    process = start(camera.url(), "--save", "out.mp4")
    assert process.stdout
    rows = [json.loads(process.stdout.readline()) for _ in range(3)]  # this would wait for a full buffer
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rows[0]["file"] == camera.url()
    assert rows[0]["seconds"] <= rows[1]["seconds"] < rows[2]["seconds"]
    assert b"Traceback" not in err
    assert b" dropped, " in err
    assert read_clip(Path("out.mp4"))[0][0] == pytest.approx(rows[0]["seconds"], abs=0.1)


@POSIX_ONLY
def test_ctrl_c_while_a_camera_is_away_ends_the_run(start, camera: Camera):
    process = start(camera.url(), "--save", "out.mp4")
    assert process.stdout
    process.stdout.readline()
    camera.kill()
    assert process.stderr
    assert b"connecting again" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert read_clip(Path("out.mp4"))[0]


def test_a_stream_ends_by_itself_after_the_duration(detect, camera: Camera):
    status, rows, err = detect(camera.url(), "--duration", "0.5", "--fps", "10")
    assert (status, len(rows) >= 1) == (0, True)
    assert all(row["seconds"] < 0.5 for row in rows)
    assert err.startswith(f"detr-onnx: {shown_name(camera.url())}: ")
