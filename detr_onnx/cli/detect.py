"""`detr-onnx detect`: detections in images, printed and, if requested, drawn."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.arguments import check_threshold
from detr_onnx.cli import detect_job, detect_panoptic, detect_video
from detr_onnx.cli.annotated_ids import with_annotated_ids
from detr_onnx.cli.console import print_error, print_result, progress
from detr_onnx.cli.interrupts import error_unless_interrupted
from detr_onnx.cli.options import (
    DEMO_NOTE,
    OUTPUT_FORMATS,
    add_detection_output,
    add_engine_options,
    add_model,
    add_source_options,
    chosen_labels,
    open_detector,
)
from detr_onnx.cli.save_paths import save_paths
from detr_onnx.defaults import DEFAULT_MODEL, DEMOS
from detr_onnx.errors import DetrError, ImageError, OutputError, UsageError
from detr_onnx.image.files import ImageFile, find_images, is_single_image

if TYPE_CHECKING:
    from detr_onnx.detections import Detections
    from detr_onnx.detector import Detector

HELP = "detect objects in images and videos"
USAGE = "%(prog)s [options] IMAGE|VIDEO [IMAGE|VIDEO ...]"

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE",
        help="files, directories, patterns such as '*.jpg', or - for stdin; or videos: files, URLs, /dev/video0",
    )  # fmt: skip
    add_detection_output(parser, (*OUTPUT_FORMATS, detect_job.PARQUET, detect_panoptic.FORMAT))
    detect_job.add_arguments(parser)
    detect_panoptic.add_arguments(parser)
    detect_video.add_arguments(parser)
    parser.add_argument(
        "--annotations", type=Path, metavar="FILE",
        help="with --format coco or panoptic: take the image ids from this COCO annotation file, by file name",
    )  # fmt: skip
    add_model(parser)
    add_engine_options(parser)
    add_source_options(parser)


def run(arguments: Namespace) -> int:
    if detect_video.has_videos(arguments):
        return detect_video.run(arguments)
    if detect_panoptic.is_panoptic(arguments):
        return detect_panoptic.run(arguments)
    if detect_job.is_job(arguments):
        return detect_job.run(arguments)
    if arguments.annotations is not None and arguments.format != "coco":
        raise UsageError("--annotations can be used only with --format coco or panoptic")
    images, errors = find_images(arguments.images)
    if arguments.annotations is not None:
        images = with_annotated_ids(images, arguments.annotations)
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

    check_threshold(arguments.threshold)
    paths = save_paths(images, arguments.save, single) if arguments.save is not None else [None] * len(images)
    for error in errors:
        print_error(error)
    if not images:
        return 1
    detector = open_detector(arguments)
    if arguments.model in DEMOS:
        warn_about_demo(images)
    labels = chosen_labels(arguments, detector)
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
            except Exception as error:  # noqa: BLE001 - whatever fails here, the other images go on
                report(error_unless_interrupted(image.name, error))
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
    from detr_onnx.image.decode import read_rgb

    image = read_rgb(image_file.source())
    detections = detector(image, threshold)
    detections = detections.only(labels) if labels is not None else detections
    if path is not None:
        from detr_onnx.image.draw import annotate, save_image

        try:
            save_image(annotate(image, detections), path)
        except OutputError as error:
            report(error)
        except Exception as error:  # noqa: BLE001 - the detections are good whatever fails here
            report(error_unless_interrupted(image_file.name, error))
    return detections


def warn_about_demo(images: Sequence[ImageFile]) -> None:
    """Logs that the demo model is not for photographs, if there is an image other than its own scene."""
    from detr_onnx.models.open import demo_image

    scene = demo_image().read_bytes()
    if not all(image.path is not None and has_content(image.path, scene) for image in images):
        logger.warning(DEMO_NOTE, DEFAULT_MODEL)


def has_content(path: Path, content: bytes) -> bool:
    """Whether a regular file has this content."""
    try:
        return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False
