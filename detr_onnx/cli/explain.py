"""`detr-onnx explain`: where DETR looks in an image, as a figure or as arrays."""

from __future__ import annotations

import io
import logging
import math
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detr_onnx.arguments import check_threshold
from detr_onnx.atomic import write_atomically, writing
from detr_onnx.cli.detect import warn_about_demo
from detr_onnx.cli.options import add_engine_options, add_model, add_source_options, add_threshold, open_detector
from detr_onnx.cli.results import check_destination
from detr_onnx.cli.save_paths import save_paths
from detr_onnx.defaults import DEMOS
from detr_onnx.errors import UsageError
from detr_onnx.image.files import ImageFile, find_images

if TYPE_CHECKING:
    from detr_onnx.attention import AttentionMaps

HELP = "show where the model looks for each object"
USAGE = "%(prog)s [options] IMAGE -o FILE.png"
ARRAYS, MEAN = ".npz", "mean"
LAST_LAYER = "-1"

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a file, or - for stdin")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the figure (.png, .jpg, …), or all maps as arrays (.npz)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--object", type=int, metavar="N", help="only the N-th best detection (default: the best twelve, side by side)"
    )
    what.add_argument(
        "--point", action="append", default=[], metavar="X,Y",
        help="what this point, in pixels, looks at: the encoder's self-attention; repeatable",
    )  # fmt: skip
    parser.add_argument("--layer", metavar="L", help=f"0 is the first, -1 the last; or mean (default: {LAST_LAYER})")
    parser.add_argument("--head", metavar="H", help=f"0 is the first; or mean (default: {MEAN})")
    add_threshold(parser)
    add_model(parser)
    add_engine_options(parser)
    add_source_options(parser)


def run(arguments: Namespace) -> int:
    from detr_onnx.image.decode import read_rgb
    from detr_onnx.image.draw import save_image

    check_threshold(arguments.threshold)
    check_choice(arguments)
    layer = number_or_mean("layer", LAST_LAYER if arguments.layer is None else arguments.layer)
    head = number_or_mean("head", MEAN if arguments.head is None else arguments.head)
    points = [parse_point(text) for text in arguments.point]
    image = one_image(arguments.image)
    output = output_path(arguments.output, image)
    detector = open_detector(arguments)
    if arguments.model in DEMOS:
        warn_about_demo([image])
    source = image.path if image.path is not None else read_rgb(image.source())
    maps = detector.attention(source, arguments.threshold, points=points)
    chosen = chosen_object(maps, arguments.object)
    if has_arrays(arguments.output):
        write_arrays(maps, output)
    else:
        save_image(maps.draw(chosen, layer=layer, head=head), output)
    logger.info("wrote %s", output)
    return 0


def has_arrays(output: str) -> bool:
    """Whether the output is a file of arrays."""
    return output.lower().endswith(ARRAYS)


def check_choice(arguments: Namespace) -> None:
    """Raises UsageError for a choice of maps with an output that has all of them."""
    chosen = [f"--{name}" for name in ("object", "layer", "head") if getattr(arguments, name) is not None]
    if chosen and has_arrays(arguments.output):
        remedy = "leave it out, or write a figure such as maps.png"
        raise UsageError(f"an {ARRAYS} file has all maps", found=" and ".join(chosen), remedy=remedy)


def one_image(name: str) -> ImageFile:
    """The image of that name.

    Raises:
        ImageError: it cannot be found.
        UsageError: the name is that of several.
    """
    images, errors = find_images([name])
    if errors:
        raise errors[0]
    if len(images) != 1:
        raise UsageError("explain takes one image", found=f"{len(images)} in {name}", remedy="name one file")
    return images[0]


def output_path(output: str, image: ImageFile) -> Path:
    """Where the result goes; raises what can be known before there is one."""
    if not has_arrays(output):
        return save_paths([image], output, single=True, option="-o")[0]
    check_destination(Path(output), "-o", [], image.path)
    return Path(output)


def number_or_mean(name: str, text: str) -> int | None:
    """A number of a layer or head; None for the mean of all."""
    if text == MEAN:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"the {name} is wrong", found=repr(text[:60]), expected=f"a number or {MEAN}") from error


def parse_point(text: str) -> tuple[float, float]:
    """`120,80` as x and y."""
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        x = y = math.nan
    if not math.isfinite(x + y):
        raise UsageError("the point is wrong", found=repr(text[:60]), expected="X,Y in pixels, such as 120,80")
    return x, y


def chosen_object(maps: AttentionMaps, rank: int | None) -> int | None:
    """The number of the detection that is the n-th best, counted from 1; None for all."""
    if rank is None:
        return None
    if not len(maps):
        raise UsageError("no object is above the threshold", found=f"--object {rank}", remedy="lower --threshold")
    if not 1 <= rank <= len(maps):
        raise UsageError("there is no such object", found=str(rank), expected=f"1 to {len(maps)}")
    return maps.best_first()[rank - 1]


def write_arrays(maps: AttentionMaps, output: Path) -> None:
    """Writes all maps; raises OutputError if they cannot be written."""
    import numpy as np

    file = io.BytesIO()
    arrays: dict[str, Any] = dict(maps.arrays())
    np.savez_compressed(file, **arrays)  # without allow_pickle, which numpy before 2.1 takes for an array
    with writing(output):
        write_atomically(output, file.getvalue())
