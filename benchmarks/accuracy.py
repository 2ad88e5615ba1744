"""Accuracy of the demo model on every available engine and precision, and their agreement with a reference.

    python weights/training/scenes.py --seed 2 --count 500 --out build/held-out
    python -m benchmarks.accuracy [--data build/held-out] [--calibrate build/calibration/images] [--full-size DIR]

Each row is a file that `detr-onnx export` writes, or an engine on the checkpoint. COCO's figures count every query;
detections above a score of 0.5 are compared with those of ONNX Runtime in float32. The results name what is not
available (an engine, a precision, images to calibrate with) and why.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import absent, benchmark_parser, parse_arguments, positive, run_main, write_results
from benchmarks.end_to_end import end_to_end_detector
from detr_onnx import Detector
from detr_onnx.bench.baselines.protocol import versions_of
from detr_onnx.bench.setting import setting
from detr_onnx.checkpoint.files import weights_file
from detr_onnx.cli import main as cli
from detr_onnx.defaults import EXPORT_PRECISIONS
from detr_onnx.detections import Detections
from detr_onnx.errors import DetrError, EngineError
from detr_onnx.evaluation.agreement import agreement
from detr_onnx.evaluation.average_precision import evaluate
from detr_onnx.evaluation.coco import Annotations, read_annotations
from detr_onnx.models.open import locate

REFERENCE = "onnxruntime-fp32"
SCORE = 0.5  # threshold of the detections that are compared, as in `detr-onnx agree`
CALIBRATED = ("int8",)  # precisions that need calibration images

Detect = Callable[[Path], Detections]
"""Image file -> the detections of all queries."""


@dataclass(frozen=True)
class Entry:
    """One row.

    Attributes:
        key: its name in the results.
        title: its name in tables.
        engine: the engine; None for an end-to-end graph, which does not need `Detector`.
        suffix: of the exported file; empty for the checkpoint itself.
        options: arguments of `detr-onnx export` besides model and file.
        precision: requested from the engine; None for its default.
    """

    key: str
    title: str
    engine: str | None
    suffix: str = ".onnx"
    options: tuple[str, ...] = ()
    precision: str | None = None


def entries(calibrate: Path | None) -> list[Entry]:
    """All rows, the reference first; the precisions are those of `detr-onnx export`."""

    def options(precision: str) -> tuple[str, ...]:
        images = ("--calibrate", str(calibrate)) if precision in CALIBRATED and calibrate else ()
        return ("--precision", precision, *images)

    return [
        *(
            Entry(f"onnxruntime-{p}", f"onnxruntime, `{p}`", "onnxruntime", options=options(p))
            for p in EXPORT_PRECISIONS
        ),
        Entry("onnxruntime-ort", "onnxruntime, `fp32`, .ort", "onnxruntime", suffix=".ort"),
        Entry("end-to-end", "onnxruntime, `fp32`, `--end-to-end`", None, options=("--end-to-end",)),
        Entry("numpy", "numpy", "numpy", suffix=""),
        *(
            Entry(f"openvino-{p}{name}", f"OpenVINO, `{p}`{title}", "openvino", options=options(p), precision=precision)
            for p in ("fp32", *CALIBRATED)
            for precision, name, title in in_openvino(p)
        ),
    ]


def in_openvino(stored: str) -> list[tuple[str, str, str]]:
    """Precisions in which OpenVINO computes a file stored in one: the precision, ends of key and title."""
    if stored == "int8":
        return [
            ("fp32", "", ""),
            ("bf16-mixed", "-bf16-mixed", ", the rest in bf16-mixed"),
            ("bf16", "-bf16", ", the rest in bf16"),
        ]
    return [
        ("fp32", "", ""),
        ("bf16", "-bf16", ", all in bf16"),
        ("bf16-mixed", "-bf16-mixed", ", bf16-mixed"),
        ("bf16-backbone", "-bf16-backbone", ", backbone in bf16"),
    ]


def missing(entry: Entry, calibrate: Path | None) -> str | None:
    """The reason why an entry cannot be measured, as far as it is known in advance."""
    needs = [p for p in CALIBRATED if p in entry.options]
    return "needs images to calibrate with (--calibrate DIR)" if needs and calibrate is None else None


def exported(model: str, file: Path, options: Sequence[str]) -> Path:
    """The file that `detr-onnx export` writes.

    Raises:
        EngineError: with the message of the command, if it fails.
    """
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        status = cli.main(["export", model, "-o", str(file), *options])
    if status:
        raise EngineError(stderr.getvalue().strip().removeprefix("detr-onnx: error: ") or "export failed")
    return file


@cache
def exported_once(model: str, work: Path, suffix: str, options: tuple[str, ...]) -> Path:
    """The exported file; rows that differ in the engine's precision share it, since calibrating takes minutes."""
    name = "-".join(["model", *(option.strip("-") for option in options if not Path(option).exists())])
    return exported(model, work / f"{name}{suffix}", options)


def opened(entry: Entry, model: str, work: Path) -> tuple[Detect, str, Path]:
    """The entry's function, the sentence on its engine, and its file."""
    if not entry.suffix:
        detector = Detector(model, engine=entry.engine or "auto")
        return with_all_queries(detector), detector.runtime, weights_file(locate(model).checkpoint or Path())
    file = exported_once(model, work, entry.suffix, entry.options)
    if entry.engine is None:
        detect, title = end_to_end_detector(file)
        return lambda image: detect(image, 0.0), title, file
    detector = Detector(file, engine=entry.engine, precision=entry.precision)
    return with_all_queries(detector), detector.runtime, file


def with_all_queries(detector: Detector) -> Detect:
    """The detector without a threshold."""
    return lambda image: detector(image, 0.0)


def coco_figures(found: Mapping[int, Detections], truth: Annotations) -> dict[str, Any]:
    """COCO's figures over all queries."""
    labels = next(iter(found.values())).class_names
    category_of = truth.category_of(labels)
    rows = (row for image_id, detections in found.items() for row in detections.to_coco(image_id))
    known = [{**row, "category_id": c} for row in rows if (c := category_of[row["category_id"]]) is not None]
    report = asdict(evaluate(truth, known))
    return {name: report["figures"][name] for name in ("AP", "AP50", "AP75")} | {"objects": report["objects"]}


def agreement_figures(found: Mapping[int, Detections], reference: Mapping[int, Detections]) -> dict[str, Any]:
    """Agreement with the reference, of detections above `SCORE`."""
    pairs = ((above(reference[number]), above(found[number])) for number in found)
    report = asdict(agreement(pairs))
    return {name: report[name] for name in ("identical", "score_difference", "recall_95", "tested")}


def above(found: Detections) -> Detections:
    """The detections above `SCORE`."""
    return found[np.flatnonzero(found.scores > SCORE)]


def measured(
    rows: Sequence[Entry], model: str, work: Path, truth: Annotations, images: Mapping[int, Path]
) -> Iterator[dict[str, Any]]:
    """A row for each entry, or the reason why there is none. The reference must come first."""
    reference: Mapping[int, Detections] = {}
    for entry in rows:
        row = {"key": entry.key, "title": entry.title}
        try:
            detect, engine, file = opened(entry, model, work)
            detections = {number: detect(image) for number, image in images.items()}
        except DetrError as error:
            yield row | {"left_out": str(error)}
            continue
        reference = reference or detections
        row |= {"engine": engine, "mb": round(file.stat().st_size / 1e6, 2)}
        yield row | coco_figures(detections, truth) | agreement_figures(detections, reference)
        print(entry.title, file=sys.stderr)


def full_sizes(model: str, work: Path) -> dict[str, float]:
    """Key -> size in MB of the files of a full-size model; int8 is in the results of `precisions.py`."""
    sizes = {}
    for entry in entries(None):
        if entry.engine == "onnxruntime" and entry.suffix == ".onnx" and not missing(entry, None):
            file = exported(model, work / f"full-size-{entry.key}.onnx", entry.options)
            sizes[entry.key] = round(file.stat().st_size / 1e6, 1)
            file.unlink()
    return sizes


def first(truth: Annotations, count: int | None) -> Annotations:
    """The annotations of the first `count` images."""
    files = dict(list(truth.files.items())[:count])
    objects = [row for row in truth.objects if row["image_id"] in files]
    return replace(truth, files=files, objects=objects)


def main() -> None:
    """Measures and writes the results."""
    parser = benchmark_parser(
        "benchmarks.accuracy", "Accuracy of every engine and precision.", "--work", results="accuracy"
    )
    parser.add_argument("--data", type=Path, default=Path("build/held-out"), metavar="DIR", help="written by scenes.py")
    parser.add_argument("-m", "--model", default="demo", help="a name or a checkpoint (default: %(default)s)")
    parser.add_argument(
        "--calibrate", type=Path, metavar="DIR", help="other images, for precisions that need calibration"
    )
    parser.add_argument("--full-size", metavar="DIR", help="a full-size checkpoint, to record the sizes of its files")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    arguments = parse_arguments(parser, "limit")
    head = setting("python -m benchmarks.accuracy", sys.argv[1:])
    work = arguments.work / "accuracy"
    work.mkdir(parents=True, exist_ok=True)
    truth = first(read_annotations(arguments.data / "annotations.json"), arguments.limit)
    images = truth.images(arguments.data / "images")
    every = entries(arguments.calibrate)
    reasons = {entry.title: reason for entry in every if (reason := missing(entry, arguments.calibrate))}
    rows = list(measured([e for e in every if e.title not in reasons], arguments.model, work, truth, images))
    reasons |= {row["title"]: row["left_out"] for row in rows if "left_out" in row}
    results = {
        **head,
        "model": arguments.model,
        "versions": versions_of("onnxruntime", "openvino", "numpy", "pycocotools"),
        "images": len(images),
        "reference": REFERENCE,
        "score": SCORE,
        "full_size_mb": full_sizes(arguments.full_size, work) if arguments.full_size else {},
        "rows": [row for row in rows if "left_out" not in row],
        "left_out": absent(reasons),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
