"""`detr-onnx detect`: detections in images, printed and, if requested, drawn."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.cli.console import print_error, print_result, progress
from detr_onnx.cli.options import (
    add_detection_output,
    add_engine_options,
    add_model,
    add_source_options,
    open_detector,
)
from detr_onnx.cli.save_paths import save_paths
from detr_onnx.errors import DetrError, ImageError, OutputError, UsageError
from detr_onnx.image.files import ImageFile, find_images, is_single_image

if TYPE_CHECKING:
    from detr_onnx.detections import Detections
    from detr_onnx.detector import Detector

HELP = "detect objects in images"
USAGE = "%(prog)s [options] IMAGE [IMAGE ...]"
LISTED_LABELS = 100  # of a model's labels in an error message


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, directories, patterns such as '*.jpg', or - for stdin"
    )
    add_detection_output(parser)
    add_model(parser)
    add_engine_options(parser)
    add_source_options(parser)


def run(arguments: Namespace) -> int:
    images, errors = find_images(arguments.images)
    return detect_images(images, errors, arguments, single=is_single_image(arguments.images))


def detect_images(images: list[ImageFile], errors: list[ImageError], arguments: Namespace, *, single: bool) -> int:
    """Detects, prints and saves; the exit status is 1 if any image failed, after all others are done.

    Args:
        images: what to detect in.
        errors: of arguments that name no image; they are reported first.
        arguments: parsed options.
        single: whether the command line names one image, which decides the format and what --save means.
    """
    from detr_onnx.cli.formats import formatter
    from detr_onnx.detector import check_threshold

    check_threshold(arguments.threshold)
    paths = save_paths(images, arguments.save, single) if arguments.save is not None else [None] * len(images)
    for error in errors:
        print_error(error)
    if not images:
        return 1
    detector = open_detector(arguments)
    labels = parse_labels(arguments.labels, detector.class_names) if arguments.labels is not None else None
    failures: list[DetrError] = [*errors]
    results = detect_each(detector, list(zip(images, paths, strict=True)), arguments.threshold, labels, failures)
    for text in formatter(arguments.format, single)(results):
        print_result(text)
    return 1 if failures else 0


def detect_each(
    detector: Detector,
    images: Sequence[tuple[ImageFile, Path | None]],
    threshold: float,
    labels: list[str] | None,
    failures: list[DetrError],
) -> Iterator[tuple[ImageFile, Detections]]:
    """Yields each image with its detections; errors are reported and added to `failures`, and the rest goes on."""

    def report(error: DetrError) -> None:
        print_error(error)
        failures.append(error)

    with progress(len(images)) as show:
        for number, (image, path) in enumerate(images, start=1):
            show(number, image.name)
            try:
                detections = detect_and_save(detector, image, path, threshold, labels, report)
            except ImageError as error:
                report(error)
            except MemoryError:
                report(ImageError(f"not enough memory for {image.name}", remedy="try a smaller --size"))
            else:
                yield image, detections


def detect_and_save(
    detector: Detector,
    image_file: ImageFile,
    path: Path | None,
    threshold: float,
    labels: list[str] | None,
    report: Callable[[DetrError], None],
) -> Detections:
    """Detections in one image; if there is a path, the annotated image is written there.

    An image that cannot be written is reported, and its detections are returned all the same.
    """
    from detr_onnx.image.preprocess import read_rgb

    image = read_rgb(image_file.source())
    detections = detector(image, threshold)
    detections = detections.only(labels) if labels is not None else detections
    if path is not None:
        from detr_onnx.image.draw import annotate, save_image

        try:
            save_image(annotate(image, detections), path)
        except OutputError as error:
            report(error)
    return detections


def parse_labels(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """The labels that `--labels` names: each text is one of the model's labels, or several separated by commas.

    Raises:
        UsageError: there are none, or the model lacks one; the message suggests the most similar label.
    """
    import difflib

    parts = [[text] if text in known else [part.strip() for part in text.split(",")] for text in texts]
    labels = [label for part in parts for label in part if label]
    unknown = [label for label in labels if label not in known]
    if unknown or not labels:
        lowered = {label.lower(): label for label in known}
        similar = [m for label in unknown for m in difflib.get_close_matches(label.lower(), lowered, 1, cutoff=0.5)]
        listed = [label for label in dict.fromkeys(known) if label != "N/A"]
        more = " …" if len(listed) > LISTED_LABELS else ""
        raise UsageError(
            f"the model has no label {', '.join(map(repr, unknown))}" if unknown else "--labels names no label",
            expected=f"some of {', '.join(listed[:LISTED_LABELS])}{more}" if not similar else None,
            remedy=f"did you mean {', '.join(repr(lowered[m]) for m in similar)}?" if similar else None,
        )
    return labels
