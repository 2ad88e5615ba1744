"""`detr-onnx evaluate --panoptic`: PQ, SQ and RQ of a panoptic model, or of panoptic results."""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.arguments import check_threshold
from detr_onnx.cli.console import check_keeps_inputs, print_result, progress
from detr_onnx.cli.options import given_options, open_detector
from detr_onnx.cli.results import check_destination
from detr_onnx.defaults import DEFAULT_THRESHOLD
from detr_onnx.errors import UsageError

if TYPE_CHECKING:
    from detr_onnx.evaluation.panoptic_coco import PanopticAnnotations
    from detr_onnx.evaluation.panoptic_quality import PanopticEvaluation


def add_arguments(parser: ArgumentParser) -> None:
    """The options of panoptic quality."""
    group = parser.add_argument_group("panoptic quality", "PQ, SQ and RQ of a panoptic model; see docs/evaluate.md")
    group.add_argument("--panoptic", action="store_true", help="annotations and results are in COCO's panoptic format")
    group.add_argument(
        "--masks", type=Path, metavar="DIR", help="the PNGs of the annotations (default: FILE without .json)"
    )
    group.add_argument(
        "--threshold", type=float, metavar="SCORE",
        help=f"keep segments whose score is above this (default: {DEFAULT_THRESHOLD})",
    )  # fmt: skip


def is_panoptic(arguments: Namespace) -> bool:
    """Whether the arguments ask for panoptic quality; UsageError for options that do not belong together."""
    if not arguments.panoptic:
        for option in given_options(arguments, add_arguments):
            raise UsageError(f"{option} can be used only with --panoptic", remedy="add --panoptic, or leave it out")
        return False
    if arguments.batch != 1:
        raise UsageError("--batch cannot be used with --panoptic", remedy="leave one of them out")
    if arguments.results is not None and arguments.save_results is not None:
        raise UsageError("--save-results cannot be used with --results", remedy="leave one of them out")
    return True


def run(arguments: Namespace) -> int:
    from detr_onnx.evaluation import panoptic_coco, panoptic_files
    from detr_onnx.evaluation.report import format_json, format_panoptic

    if arguments.threshold is not None:
        check_threshold(arguments.threshold)
    if arguments.save_results is not None:
        panoptic_files.check_results_file(arguments.save_results)
        inputs = arguments.annotations, arguments.config
        check_destination(arguments.save_results, "--save-results", [arguments.model], *inputs)
    masks = arguments.masks or panoptic_files.png_directory(arguments.annotations)
    truth = panoptic_coco.read_truth(arguments.annotations, masks)
    if arguments.results is not None:
        pngs = panoptic_files.png_directory(arguments.results)
        results = panoptic_coco.read_panoptic_results(arguments.results, pngs, truth)
        subject, figures = {"results": str(arguments.results)}, panoptic_coco.evaluate_results(truth, results)
    else:
        subject, figures = evaluate_model(arguments, truth)
    print_result(format_json(subject, figures) if arguments.format == "json" else format_panoptic(subject, figures))
    return 0


def evaluate_model(arguments: Namespace, truth: PanopticAnnotations) -> tuple[dict[str, str], PanopticEvaluation]:
    """What is evaluated, for the report, and its figures; the segments are saved if that was asked for."""
    from detr_onnx.evaluation.panoptic_coco import evaluate_model
    from detr_onnx.evaluation.panoptic_files import panoptic_results

    images = truth.images(arguments.images)
    if arguments.save_results is not None:
        check_keeps_inputs(arguments.save_results, "--save-results", *images.values())
    detector = open_detector(arguments)
    detector.check_masks()
    threshold = DEFAULT_THRESHOLD if arguments.threshold is None else arguments.threshold
    subject = {"model": arguments.model, "engine": detector.runtime, "threshold": str(threshold)}
    with contextlib.ExitStack() as stack:
        results = None
        if arguments.save_results is not None:
            names = {k: category.name for k, category in truth.categories.items()}
            category_of = truth.category_of(detector.class_names)
            results = stack.enter_context(panoptic_results(arguments.save_results, category_of, names))
        show = stack.enter_context(progress(len(images), results_on_stdout=False))
        return subject, evaluate_model(detector, truth, images, threshold, show=show, results=results)
