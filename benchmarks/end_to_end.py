"""Differences between an end-to-end graph and `Detector`, image by image, over directories of images.

    python -m benchmarks.end_to_end [-m MODEL] "500 held-out scenes=build/held-out/images" "photographs=DIR"

For each directory the results say how many images have the same labels, and the largest differences of scores and
boxes. Rows of other models and directories stay in the results file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.command import benchmark_parser, run_main, write_results
from detr_onnx import Detector
from detr_onnx.bench.baselines.protocol import versions_of
from detr_onnx.bench.setting import setting, short_path
from detr_onnx.detections import Detections
from detr_onnx.errors import DatasetError, UsageError
from detr_onnx.evaluation.agreement import pairs
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.files import find_images
from detr_onnx.json_input import read_object
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import locate

EndToEnd = Callable[[Path, float], Detections]
"""Image file, threshold -> detections."""


def end_to_end_detector(graph: Path) -> tuple[EndToEnd, str]:
    """A function that runs an end-to-end graph, and the sentence on its engine."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["detr_onnx.labels"])

    def detect(image: Path, threshold: float) -> Detections:
        feeds = {"image": np.asarray(read_rgb(image)), "threshold": np.array([threshold], np.float32)}
        return Detections(*session.run(["scores", "labels", "boxes"], feeds), labels)

    return detect, f"onnxruntime {onnxruntime.__version__}, end to end"


def compare(results: Iterable[tuple[Detections, Detections]]) -> dict[str, Any]:
    """Largest differences of two sets of detections over all images."""
    images = same = detections = 0
    score = box = 0.0
    for expected, actual in results:
        partners = pairs(expected, actual)
        images, detections = images + 1, detections + len(expected)
        same += len(partners) == len(expected) == len(actual)
        for i, j, _ in partners:
            score = max(score, abs(float(expected.scores[i] - actual.scores[j])))
            box = max(box, float(np.abs(expected.xyxy[i] - actual.xyxy[j]).max()))
    return {
        "images": images,
        "detections": detections,
        "same_labels": same,
        "score_difference": float(f"{score:.2g}"),
        "box_difference_px": float(f"{box:.2g}"),
    }


def folder(text: str) -> tuple[str, str]:
    """Title and directory of `TITLE=DIR`; without a title, the directory's name."""
    title, _, directory = text.rpartition("=")
    return title or Path(directory).name, directory


def short_folder(argument: str) -> str:
    """`TITLE=DIR` for the results file, with the last two parts of the directory."""
    title, sign, directory = argument.rpartition("=")
    return f"{title}{sign}{short_path(directory)}"


def rows(model: str, folders: Sequence[str], threshold: float) -> list[dict[str, Any]]:
    """A row for each directory."""
    source = locate(model).checkpoint
    if source is None:
        raise UsageError(f"{model} is a graph already", expected="a checkpoint, to write the end-to-end graph from")
    detector = Detector(model, engine="onnxruntime")
    with tempfile.TemporaryDirectory() as work:
        graph = Path(work) / "end.onnx"
        write_onnx(graph, *read_model(source), ExportOptions(end_to_end=True))
        detect, _ = end_to_end_detector(graph)
    rows = []
    for title, directory in map(folder, folders):
        found, errors = find_images([directory])
        if errors:
            raise errors[0]
        images = [image.path for image in found if image.path]
        both = ((detector(path, threshold).by_score(), detect(path, threshold)) for path in images)
        rows.append({"model": Path(model).name, "title": title, "threshold": threshold, **compare(both)})
        print(f"{title}: {len(images)} images", file=sys.stderr)
    return rows


def merged(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The old and new rows; a new row replaces that of the same model and directory."""
    by_key = {(row["model"], row["title"]): row for row in (*before, *now)}
    return list(by_key.values())


def main() -> None:
    """Compares and writes the results."""
    parser = benchmark_parser("benchmarks.end_to_end", "End-to-end graphs beside Detector.", results="end_to_end")
    parser.add_argument("folders", nargs="+", metavar="TITLE=DIR", help="a directory of images and its title")
    parser.add_argument("-m", "--model", default="demo", help="a name or a checkpoint (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=0.5, help="of scores (default: %(default)s)")
    arguments = parser.parse_args()
    before = read_object(arguments.json, error=DatasetError) if arguments.json.exists() else {"rows": []}
    results = {
        **setting("python -m benchmarks.end_to_end", [short_folder(argument) for argument in sys.argv[1:]]),
        "versions": versions_of("onnxruntime", "numpy"),
        "rows": merged(before["rows"], rows(arguments.model, arguments.folders, arguments.threshold)),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
