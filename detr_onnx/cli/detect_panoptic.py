"""`detr-onnx detect IMAGES… --format panoptic -o FILE.json`: segments as COCO's JSON and PNGs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.arguments import check_threshold
from detr_onnx.cli import detect_job
from detr_onnx.cli.annotated_ids import with_annotated_ids
from detr_onnx.cli.console import print_error, progress
from detr_onnx.cli.interrupts import error_unless_interrupted
from detr_onnx.cli.options import add_detection_output, given_options, open_detector, parse_labels
from detr_onnx.cli.results import check_destination
from detr_onnx.errors import DetrError, UsageError
from detr_onnx.labels import NO_CLASS

if TYPE_CHECKING:
    from detr_onnx.detector import Detector
    from detr_onnx.image.files import ImageFile
    from detr_onnx.panoptic import PanopticSegmentation

FORMAT = "panoptic"


def add_arguments(parser: ArgumentParser) -> None:
    """The options of panoptic segmentation."""
    group = parser.add_argument_group(
        "segments",
        "--format panoptic -o FILE.json writes FILE.json, and PNGs to the directory FILE; see docs/panoptic.md",
    )
    group.add_argument(
        "--fuse", action="append", metavar="SKY,GRASS",
        help="merge the segments of each of these classes into one (default: the stuff classes of --annotations)",
    )  # fmt: skip


def is_panoptic(arguments: Namespace) -> bool:
    """Whether the arguments ask for segments; UsageError for options that do not belong together."""
    if arguments.format != FORMAT:
        if arguments.fuse is not None:
            raise UsageError("--fuse can be used only with --format panoptic")
        return False
    if arguments.output is None:
        raise UsageError("--format panoptic needs a file to write", remedy="add -o FILE.json")
    for option in given_options(arguments, add_detection_output, detect_job.add_arguments):
        if option not in ("--threshold", "--format", "--output"):
            raise UsageError(f"{option} cannot be used with --format panoptic", remedy="leave one of them out")
    return True


def run(arguments: Namespace) -> int:
    """Writes the segments of the images; the exit status is 1 if any failed, after all others are done."""
    from detr_onnx.evaluation.panoptic_files import check_results_file, panoptic_results
    from detr_onnx.image.files import find_images

    check_threshold(arguments.threshold)
    file = Path(arguments.output)
    check_results_file(file)
    images, errors = find_images(arguments.images)
    inputs = [arguments.annotations, arguments.config, *(image.path for image in images)]
    check_destination(file, "-o", [arguments.model], *inputs)
    if arguments.annotations is not None:
        images = with_annotated_ids(images, arguments.annotations)
    for error in errors:
        print_error(error)
    if not images:
        return 1
    detector = open_detector(arguments)
    detector.check_masks()
    fused = fused_classes(arguments, detector)
    failures: list[DetrError] = [*errors]
    categories = {k: name for k, name in enumerate(detector.class_names) if name != NO_CLASS}
    category_of = [k if k in categories else None for k in range(len(detector.class_names))]
    with panoptic_results(file, category_of, categories) as results:
        for image, found in segment_each(detector, images, arguments.threshold, fused, failures):
            results.add(image.image_id, image.name, found)
    return 1 if failures else 0


def segment_each(
    detector: Detector,
    images: Sequence[ImageFile],
    threshold: float,
    fused: Sequence[int],
    failures: list[DetrError],
) -> Iterator[tuple[ImageFile, PanopticSegmentation]]:
    """Yields each image with its segments; errors are reported and added to `failures`, and the rest goes on."""
    with progress(len(images), results_on_stdout=False) as show:
        for number, image in enumerate(images, start=1):
            show(number, image.name)
            try:
                found = detector.panoptic(image.source(), threshold, label_ids_to_fuse=fused)
            except Exception as error:  # noqa: BLE001 - whatever fails here, the other images go on
                failures.append(error_unless_interrupted(image.name, error))
                print_error(failures[-1])
            else:
                yield image, found


def fused_classes(arguments: Namespace, detector: Detector) -> list[int]:
    """The classes of `--fuse`; without it those that are stuff in the annotations, if these are panoptic."""
    from detr_onnx.evaluation.panoptic_coco import read_stuff

    if arguments.fuse is not None:
        names = parse_labels(arguments.fuse, detector.class_names, option="--fuse")
        return [k for k, name in enumerate(detector.class_names) if name in names]
    return read_stuff(arguments.annotations, detector.class_names) if arguments.annotations is not None else []
