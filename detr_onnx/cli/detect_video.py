"""`detr-onnx detect` for videos: prints a row for each frame at once, writes an annotated video, and counts frames."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.arguments import check_threshold
from detr_onnx.cli import detect_job
from detr_onnx.cli.console import check_keeps_inputs, print_error, print_result
from detr_onnx.cli.interrupts import interrupt_on_termination, was_interrupted
from detr_onnx.cli.options import chosen_labels, given_options, open_detector
from detr_onnx.errors import DetrError, OutputError, UsageError
from detr_onnx.paths import file_name
from detr_onnx.text import printable
from detr_onnx.video.sources import is_live, is_video, shown_name

if TYPE_CHECKING:
    from detr_onnx.detector import Detector
    from detr_onnx.video.detect import VideoFrame
    from detr_onnx.video.open import Video
    from detr_onnx.video.writer import VideoWriter


def add_arguments(parser: ArgumentParser) -> None:
    """The options of videos."""
    group = parser.add_argument_group("videos")
    group.add_argument("--every", type=int, default=1, metavar="N", help="process every N-th frame")
    group.add_argument("--fps", type=float, metavar="R", help="process at most R frames per second")
    group.add_argument("--start", type=float, default=0.0, metavar="S", help="start at this second of the file")
    group.add_argument("--duration", type=float, metavar="S", help="process this many seconds")
    group.add_argument("--track", action="store_true",
        help="give an object the same track_id in all frames; needs the package trackers")  # fmt: skip


def has_videos(arguments: Namespace) -> bool:
    """Whether the arguments name videos. Among images, a file such as clip.mp4 is an image that cannot be read.

    Raises:
        UsageError: they name images and a stream, or there are options of videos for images.
    """
    videos = [argument for argument in arguments.images if is_video(argument)]
    others = [argument for argument in arguments.images if not is_video(argument)]
    used = given_options(arguments, add_arguments)
    if videos and others and (used or any(map(is_live, videos))):
        found = f"the video {shown_name(videos[0])} and {others[0]}"
        raise UsageError("images and videos cannot be mixed", found=found, remedy="run detect once for each kind")
    if used and not videos:
        expected = "a file such as clip.mp4, a URL such as rtsp://… or /dev/video0"
        raise UsageError(f"{used[0]} is for videos", found=others[0], expected=expected)
    return bool(videos) and not others


def run(arguments: Namespace) -> int:
    """Detects in each video in turn; the exit status is 1 if one failed, after all others are done."""
    from detr_onnx.video.pyav import import_av

    check_threshold(arguments.threshold)
    check_options(arguments)
    import_av()
    paths = video_paths(arguments.images, arguments.save)
    detector = open_detector(arguments)
    labels = chosen_labels(arguments, detector)
    failed = False
    with interrupt_on_termination():
        for source, path in zip(arguments.images, paths, strict=True):
            try:
                failed |= not detect_in(detector, source, path, labels, arguments)
            except DetrError as error:
                if was_interrupted():
                    raise KeyboardInterrupt from error
                if isinstance(error, UsageError):
                    raise
                print_error(error)
                failed = True
    return 1 if failed else 0


def check_options(arguments: Namespace) -> None:
    """Raises UsageError for options that do not go together, and for numbers that are out of range."""
    from detr_onnx.video.frames import Selection

    if arguments.format not in (None, "ndjson"):
        found = f"--format {arguments.format}"
        raise UsageError("a video gives a row for each frame", found=found, expected="--format ndjson, the default")
    if arguments.output is not None:
        raise UsageError("-o is for images", found=shown_name(arguments.images[0]), remedy="redirect the output")
    if arguments.annotations is not None:
        raise UsageError("--annotations is for images", found=shown_name(arguments.images[0]))
    for option in given_options(arguments, detect_job.add_arguments):
        raise UsageError(f"{option} is for images", found=shown_name(arguments.images[0]))
    live = [source for source in arguments.images if is_live(source)]
    if live and len(arguments.images) > 1:
        found = ", ".join(map(shown_name, arguments.images[:3]))
        raise UsageError("a live stream does not end", found=found, remedy="run one detect for each stream")
    if live and arguments.start > 0:
        raise UsageError("--start is for files", found=shown_name(live[0]))
    Selection(arguments.every, arguments.fps, arguments.start, arguments.duration)


def video_paths(sources: Sequence[str], save: str | None) -> Sequence[Path | None]:
    """Where the annotated videos go: `save` itself, or files in it if it is a directory.

    Raises:
        UsageError, OutputError: as `check_video_path`; or several videos for one file, or one of the other videos.
    """
    from detr_onnx.video.writer import FORMATS, check_video_path

    if save is None:
        return [None] * len(sources)
    target = Path(save)
    if not target.is_dir():
        check_video_path(target)
        if len(sources) > 1:
            raise UsageError(f"several videos cannot be saved in the one file {save}", remedy="name a directory")
        return [target]
    names = [Path(source if not is_live(source) else "live.mp4") for source in sources]
    files = [name.name if name.suffix.lower() in FORMATS else f"{name.stem}.mp4" for name in names]
    paths = [target / file_name(file) for file in files]
    if len({path.name.casefold() for path in paths}) < len(paths):
        raise UsageError("two videos would have the same name", found=str(target), remedy="save them in two runs")
    for source, path in zip(sources, paths, strict=True):
        check_keeps_inputs(path, "--save", *(Path(other) for other in sources if other != source))
    return paths


def detect_in(
    detector: Detector, source: str, path: Path | None, labels: list[str] | None, arguments: Namespace
) -> bool:
    """Prints the rows of one video and saves it; the counts go to stderr however it ends.

    Returns:
        Whether the annotated video could be written, if there is to be one.
    """
    from detr_onnx.video.open import open_video
    from detr_onnx.video.writer import VideoWriter

    options = {"every": arguments.every, "fps": arguments.fps, "duration_s": arguments.duration}
    with open_video(source, start_s=arguments.start, **options) as video, counts_at_the_end(video):
        writer = VideoWriter(path, video) if path is not None else None
        with writer or contextlib.nullcontext():
            written = True
            frames = detector.video(video, arguments.threshold, track=arguments.track)
            with contextlib.closing(frames):
                for frame in frames:
                    frame = frame if labels is None else frame._replace(detections=frame.detections.only(labels))
                    print_result(row_of(video, frame))
                    written = written and (writer is None or save(frame, writer))
            return written


def row_of(video: Video, frame: VideoFrame) -> str:
    """`{"file", "frame", "seconds", "detections"}` on a line."""
    row = {"file": video.name, "frame": frame.frame_index, "seconds": round(frame.seconds, 6)}
    return json.dumps({**row, "detections": frame.detections.to_api()}) + "\n"


def save(frame: VideoFrame, writer: VideoWriter) -> bool:
    """Adds the annotated frame; an error is reported, and the rows go on without the file."""
    from detr_onnx.image.draw import annotate

    try:
        writer.write(frame.seconds, annotate(frame.image, frame.detections))
    except OutputError as error:
        print_error(error)
        return False
    return True


@contextlib.contextmanager
def counts_at_the_end(video: Video) -> Iterator[None]:
    """Writes the counts to stderr, however the block ends. A video without frames has an error that says so."""
    try:
        yield
    finally:
        if video.counts.frames:
            print_counts(video)


def print_counts(video: Video) -> None:
    """Writes the counts to stderr, as one line."""
    counts = video.counts
    reconnects = f", {counts.reconnects} reconnects" if counts.reconnects else ""
    sys.stderr.write(
        f"detr-onnx: {printable(video.name)}: {counts.frames} frames, {counts.dropped} dropped, "
        f"{counts.damaged} damaged{reconnects}\n"
    )
