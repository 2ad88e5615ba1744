"""Frames a second of a video file, and how long after the glass a row of a live stream comes.

    python -m benchmarks.video [--runs 15] [--seconds 20] [--engines onnxruntime,openvino]

The file: each turn is a few frames of a clip of 640x480 by `Detector.video`, and the same by a loop that decodes a
frame, detects, and decodes the next. The stream: a real RTSP server on this machine sends frames of 640x480 that show
when they were made. The latency is from there to the moment when the row could be printed: encoding by the camera, the
network, decoding, waiting for the frame before, detection. Both need the extra `video`; the stream needs GStreamer's
RTSP server (`tests/video/standin_camera.py` names the packages) and is left out without it.
"""

from __future__ import annotations

import io
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from PIL import Image

from benchmarks.command import absent, benchmark_parser, listed, parse_arguments, run_main, write_results
from benchmarks.latency import TITLES
from benchmarks.setting import CACHE, show
from benchmarks.subject import PHOTOGRAPH_WH, SEED, subject
from detr_onnx import Detector
from detr_onnx.bench.report import rate
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures, ratio
from detr_onnx.verify.sample_photo import jpeg
from detr_onnx.video.open import open_video
from tests.video.clips import write_clip
from tests.video.standin_camera import Camera, has_rtsp_server, made_at

FRAMES, WARM_UP = 8, 1
CAMERA_FPS = 25
SECONDS = 20.0
ENGINES = "onnxruntime,openvino"
ONE_SIZE = "onnxruntime, one size"  # of a file that was exported for the frames' size; OpenVINO gains nothing by it


def clip(file: Path) -> Path:
    """A pan over a photograph."""
    width, height = PHOTOGRAPH_WH
    with Image.open(io.BytesIO(jpeg(width + 4 * FRAMES, height))) as wide:
        images = [wide.convert("RGB").crop((4 * i, 0, 4 * i + width, height)) for i in range(FRAMES)]
    return write_clip(file, images)


def by_video(detector: Detector, file: Path) -> float:
    """Seconds a frame with `Detector.video`."""
    start = time.perf_counter()
    count = sum(1 for _ in detector.video(file))
    return (time.perf_counter() - start) / count


def by_loop(detector: Detector, file: Path) -> float:
    """Seconds a frame of a loop over PyAV's frames."""
    start, count = time.perf_counter(), 0
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            detector(frame.to_image())
            count += 1
    return (time.perf_counter() - start) / count


def take_turns(detectors: dict[str, Detector], file: Path, runs: int) -> dict[tuple[str, str], list[float]]:
    """Seconds a frame of each engine and way, a value for each round."""
    ways = {"video": by_video, "loop": by_loop}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in itertools.product(detectors, ways)}
    for number in range(1 - WARM_UP, runs + 1):
        for (engine, way), values in seconds.items():
            show(number, f"{engine}, {way}")
            value = ways[way](detectors[engine], file)
            values.extend([value] if number > 0 else [])
    return seconds


def live(detector: Detector, seconds: float) -> dict[str, Any]:
    """Latencies of the rows of a new camera's stream, rows a second, and the share of frames that were dropped."""
    ages_s = []
    with Camera(*PHOTOGRAPH_WH, CAMERA_FPS) as camera, open_video(camera.url(), duration_s=seconds) as video:
        start = time.monotonic()
        for frame in detector.video(video):
            json.dumps(frame.detections.to_api())
            ages_s.append(time.monotonic() - made_at(frame.image))
            if len(ages_s) == 1:
                start = time.monotonic()
        counts = video.counts
    return {
        "latency_ms": figures(ages_s[1:], 1000, digits=1),  # the first run is slower than all others
        "rows_per_s": round((len(ages_s) - 1) / (time.monotonic() - start), 2),
        "dropped": round(counts.dropped / counts.frames, 3),
        "frames": counts.frames,
    }


def rows(detectors: dict[str, Detector], file: Path, runs: int, seconds: float) -> Iterator[dict[str, Any]]:
    """A row for each engine."""
    taken = take_turns(detectors, file, runs)
    for engine, detector in detectors.items():
        show(0, f"{engine}, live")
        ours, loop = taken[engine, "video"], taken[engine, "loop"]
        yield {
            "key": engine,
            "title": f"ours, {TITLES.get(engine, engine)}",
            "runs_on": detector.runtime,
            "frames_per_s": {"video": rate(ours), "loop": rate(loop)},
            "ratio": ratio(ours, loop),
            "live": live(detector, seconds) if has_rtsp_server() else None,
        }


def main() -> None:
    """Measures and writes the results."""
    shared = ("--work", "--model", "--threads")
    parser = benchmark_parser("benchmarks.video", "Videos and live streams.", *shared, results="video", runs=15)
    parser.add_argument(
        "--engines",
        type=listed(*ENGINES.split(","), "numpy"),
        default=ENGINES,
        metavar="NAME,…",
        help="(default: %(default)s)",
    )
    help_text = "how long each engine watches the stream (default: %(default)s)"
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=help_text)
    arguments = parse_arguments(parser, "engines")
    head = setting("python -m benchmarks.video", sys.argv[1:])
    arguments.work.mkdir(parents=True, exist_ok=True)
    is_demo = str(arguments.model) == "demo"
    measured = None if is_demo else subject(arguments.work, arguments.model)
    model = str(measured.model) if measured else "demo"
    title = "demo" if is_demo else arguments.model.name if arguments.model else f"seeded DETR-R50 (seed {SEED})"
    threads, cache = arguments.threads, arguments.work / CACHE
    detectors = {
        engine: Detector(model, engine=engine, threads=threads, cache_dir=cache) for engine in arguments.engines
    }
    if measured and "onnxruntime" in detectors:
        detectors[ONE_SIZE] = Detector(measured.graphs["fixed"], engine="onnxruntime", threads=threads)
    missing = {} if has_rtsp_server() else {"the live stream": "GStreamer's RTSP server is not installed"}
    results = {
        **head,
        "model": title,
        "threads": threads,
        "runs": arguments.runs,
        "versions": {"av": av.__version__},
        "camera": {"width": PHOTOGRAPH_WH[0], "height": PHOTOGRAPH_WH[1], "fps": CAMERA_FPS},
        "rows": [*rows(detectors, clip(arguments.work / "clip.mp4"), arguments.runs, arguments.seconds)],
        "left_out": absent(missing),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
