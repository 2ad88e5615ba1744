"""An end-to-end graph beside `Detector`, image by image, over folders of images:

    python -m benchmarks.end_to_end [-m MODEL] "500 held-out scenes=build/held-out/images" "photographs=DIR"

writes how many images have the same labels, and how far scores and boxes lie apart at most, a row a folder, into
`results/end_to_end.json`; rows of other models and folders stay there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from detr_onnx import Detector
from detr_onnx.bench.baselines import versions_of
from detr_onnx.bench.setting import setting, short_path
from detr_onnx.detections import Detections
from detr_onnx.errors import UsageError
from detr_onnx.evaluation.agreement import pairs
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.files import find_images
from detr_onnx.image.preprocess import read_rgb
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import locate

RESULTS = Path(__file__).parent / "results" / "end_to_end.json"

EndToEnd = Callable[[Path, float], Detections]
"""An image's file and a threshold -> its detections."""


def end_to_end_detector(graph: Path) -> tuple[EndToEnd, str]:
    """An end-to-end graph as any program would run it, and what on."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["detr_onnx.labels"])

    def detect(image: Path, threshold: float) -> Detections:
        feeds = {"image": np.asarray(read_rgb(image)), "threshold": np.array([threshold], np.float32)}
        return Detections(*session.run(["scores", "labels", "boxes"], feeds), labels)

    return detect, f"onnxruntime {onnxruntime.__version__}, end to end"


def compare(answers: Iterable[tuple[Detections, Detections]]) -> dict[str, Any]:
    """How far apart the two are over all images."""
    images = same = detections = 0
    score = box = 0.0
    for expected, found in answers:
        partners = pairs(expected, found)
        images, detections = images + 1, detections + len(expected)
        same += len(partners) == len(expected) == len(found)
        for i, j, _ in partners:
            score = max(score, abs(float(expected.scores[i] - found.scores[j])))
            box = max(box, float(np.abs(expected.xyxy[i] - found.xyxy[j]).max()))
    return {
        "images": images,
        "detections": detections,
        "same_labels": same,
        "score_difference": float(f"{score:.2g}"),
        "box_difference_px": float(f"{box:.2g}"),
    }


def folder(text: str) -> tuple[str, str]:
    """`TITLE=DIR` as title and directory; the directory's own name where there is no title."""
    title, _, place = text.rpartition("=")
    return title or Path(place).name, place


def without_folders_place(word: str) -> str:
    """`TITLE=DIR` as a results file may have it: quoted for a shell, the directory by its last two parts."""
    title, sign, place = word.rpartition("=")
    return shlex.quote(f"{title}{sign}{short_path(place)}")


def rows(model: str, folders: Sequence[str], threshold: float) -> list[dict[str, Any]]:
    """A row a folder."""
    source = locate(model).checkpoint
    if source is None:
        raise UsageError(f"{model} is a graph already", expected="a checkpoint, to write the end-to-end graph from")
    detector = Detector(model, engine="onnxruntime")
    with tempfile.TemporaryDirectory() as work:
        graph = Path(work) / "end.onnx"
        write_onnx(graph, *read_model(source), ExportOptions(end_to_end=True))
        detect, _ = end_to_end_detector(graph)
    told = []
    for title, place in map(folder, folders):
        images = [one.path for one in find_images([place])[0] if one.path]
        both = ((detector(path, threshold).by_score(), detect(path, threshold)) for path in images)
        told.append({"model": Path(model).name, "title": title, "threshold": threshold, **compare(both)})
        print(f"{title}: {len(images)} images", file=sys.stderr)
    return told


def merged(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of both, in which those of the same model and folder are the new ones."""
    found = {(row["model"], row["title"]): row for row in (*before, *now)}
    return list(found.values())


def main() -> None:
    """Compares and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description="End to end beside Detector.")
    parser.add_argument("folders", nargs="+", metavar="TITLE=DIR", help="images, and what to call them")
    parser.add_argument("-m", "--model", default="demo", help="a name or a checkpoint (default: demo)")
    parser.add_argument("--threshold", type=float, default=0.5, help="of scores (default: 0.5)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    arguments = parser.parse_args()
    before = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"rows": []}
    results = {
        **setting("python -m benchmarks.end_to_end", [without_folders_place(word) for word in sys.argv[1:]]),
        "versions": versions_of("onnxruntime", "numpy"),
        "rows": merged(before["rows"], rows(arguments.model, arguments.folders, arguments.threshold)),
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {arguments.json.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
