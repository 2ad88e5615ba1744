"""`detr-onnx evaluate`: a model measured on annotated images, or compared with another on any."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from detr_onnx.cli.console import bar, check_place, tell, write
from detr_onnx.cli.options import open_detector
from detr_onnx.detections import Detections
from detr_onnx.detector import check_threshold
from detr_onnx.errors import UsageError
from detr_onnx.evaluation.agreement import agreement
from detr_onnx.evaluation.average_precision import detect_rows, evaluate, import_pycocotools
from detr_onnx.evaluation.coco import Annotations, Row, read_annotations, read_results
from detr_onnx.evaluation.report import format_agreement, format_evaluation, format_json
from detr_onnx.image.files import find_images

MEASURE_ONLY, COMPARE_ONLY = ("results", "save_results"), ("against_engine", "against_precision")


def measure(arguments: Namespace) -> int:
    """COCO's figures of a model on annotated images, or of a results file."""
    check_usage(arguments)
    import_pycocotools()
    truth = read_annotations(arguments.annotations)
    subject, rows = _rows(arguments, truth)
    if arguments.save_results is not None:
        write(arguments.save_results, json.dumps(rows))
    figures = evaluate(truth, rows)
    tell(format_json(subject, figures) if arguments.format == "json" else format_evaluation(subject, figures))
    return 0


def compare(arguments: Namespace) -> int:
    """How far a model agrees with `--against`, the reference."""
    check_usage(arguments)
    images, missing = find_images([arguments.images])
    if missing:
        raise missing[0]
    paths = [image.path for image in images if image.path is not None]
    reference, expected = _answers(reference_of(arguments), paths)
    tested, found = _answers(arguments, paths)
    subject = {"model": arguments.model, "engine": tested}
    subject |= {"reference": arguments.against, "reference_engine": reference, "threshold": arguments.threshold}
    figures = agreement(zip(expected, found, strict=True))
    tell(format_json(subject, figures) if arguments.format == "json" else format_agreement(subject, figures))
    return 0


def check_usage(arguments: Namespace) -> None:
    """Raises what is wrong with the options before anything is read."""
    check_threshold(arguments.threshold)
    if arguments.batch < 1:
        raise UsageError("the batch is wrong", found=str(arguments.batch), expected="a number of images from 1 up")
    other, partner = (MEASURE_ONLY, "annotations") if arguments.against else (COMPARE_ONLY, "against")
    stray = [f"--{name.replace('_', '-')}" for name in other if getattr(arguments, name) is not None]
    if stray:
        raise UsageError(f"{' and '.join(stray)} can be used only with --{partner}")
    if arguments.save_results is not None:
        check_place(arguments.save_results)


def reference_of(arguments: Namespace) -> Namespace:
    """The options of the model `--against`; what only one engine or model understands is not handed on to another."""
    engine = arguments.against_engine or arguments.engine
    same_model, same_engine = arguments.against == arguments.model, engine == arguments.engine
    return Namespace(
        **vars(arguments)
        | {"model": arguments.against, "engine": engine, "precision": arguments.against_precision}
        | ({} if same_model else {"config": None})
        | ({} if same_engine else {"providers": None, "threads": None})
    )


def _rows(arguments: Namespace, truth: Annotations) -> tuple[dict[str, str], list[Row]]:
    """What is measured, and its rows: a results file's, or those of a model that runs now."""
    if arguments.results is not None:
        return {"results": str(arguments.results)}, read_results(arguments.results, truth)
    images = truth.images(Path(arguments.images))
    detector = open_detector(arguments)
    rows = detect_rows(detector, truth, images, batch_size=arguments.batch, watch=bar)
    return {"model": arguments.model, "engine": detector.engine}, rows


def _answers(arguments: Namespace, paths: Sequence[Path]) -> tuple[str, list[Detections]]:
    """The engine, and what is in each image."""
    detector = open_detector(arguments)
    return detector.engine, detector.batch(bar(paths), arguments.threshold, batch_size=arguments.batch)
