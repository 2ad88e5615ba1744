"""`detr-onnx demo`: a shipped model on the shipped image; works offline, right after the installation."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from detr_onnx.cli.detect import detect_images
from detr_onnx.cli.options import add_detection_output, add_engine_options
from detr_onnx.defaults import DEMO, DEMO_PANOPTIC
from detr_onnx.image.files import ImageFile

HELP = "run the shipped model on the shipped image; works offline"
USAGE = "%(prog)s [options]"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--panoptic", dest="model", action="store_const", const=DEMO_PANOPTIC,
        help="the model with a mask head; --save draws the pixels of each object",
    )  # fmt: skip
    add_detection_output(parser)
    add_engine_options(parser)
    parser.set_defaults(model=DEMO, config=None, offline=True, cache_dir=None)


def run(arguments: Namespace) -> int:
    from detr_onnx.models.open import demo_image

    image = demo_image()
    return detect_images([ImageFile(image.name, image)], [], arguments, single=True)
