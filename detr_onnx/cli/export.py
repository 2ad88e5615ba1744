"""`detr-onnx export`: a checkpoint as an .onnx or .ort file; int8 is calibrated and compared with fp32 first."""

from __future__ import annotations

import json
import logging
import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.cli.console import check_keeps_inputs
from detr_onnx.cli.options import add_source_options, add_verbose, check_batch
from detr_onnx.cli.results import MODEL_JSON, check_destination, failure_of, write_result
from detr_onnx.cli.step_progress import step_progress
from detr_onnx.defaults import EXPORT_PRECISIONS
from detr_onnx.errors import DetrError, OutputError, UsageError
from detr_onnx.image.files import find_images
from detr_onnx.paths import exists, is_directory

if TYPE_CHECKING:
    from detr_onnx.exporter.calibrate import Calibration
    from detr_onnx.exporter.onnx_file import ExportOptions
    from detr_onnx.models.load import Source

HELP = "write a checkpoint as an .onnx or .ort file"
USAGE = "%(prog)s [options] MODEL -o FILE.onnx"
INT8_OPTIONS = ("calibrate", "report", "force")

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help='"demo", a Hugging Face model id, a directory or a .safetensors file')
    add("-o", "--output", type=Path, required=True, metavar="FILE.onnx", help="the file to write")
    add(
        "--format", choices=("onnx", "ort"),
        help="ort: the format of ONNX Runtime's minimal builds (default: FILE's suffix)",
    )  # fmt: skip
    add(
        "--precision", choices=EXPORT_PRECISIONS, default="fp32",
        help="of weights and computation; with -weights, of stored weights only (default: %(default)s)",
    )  # fmt: skip
    add("--calibrate", metavar="DIR", help="for int8: about 100 images like those that the model will see")
    add("--report", metavar="FILE", help="for int8: write the calibration report as JSON (- for stdout)")
    add("--force", action="store_true", help="for int8: write the file even if it differs too much from fp32")
    add("--shape", metavar="HxW", help="accept only this image size, such as 800x1066")
    add("--batch", type=int, metavar="N", help="accept only this number of images (with --shape: 1)")
    add("--no-mask", action="store_true", help="omit the input pixel_mask; all images of a batch then have one size")
    add("--fused-attention", action="store_true",
        help="write attention as ONNX Runtime's own operator; faster there only")  # fmt: skip
    add(
        "--end-to-end", action="store_true", help="include pre- and postprocessing: uint8 image in; boxes and masks out"
    )
    add("--attention", action="store_true", help="add attention maps, for Detector.attention and explain; no masks")
    add("--external-data", action="store_true", help="write the weights to FILE.onnx.data; loading takes less memory")
    add_verbose(parser)
    add_source_options(parser)


def run(arguments: Namespace) -> int:
    from detr_onnx.engines.graph_file import check_graph_file
    from detr_onnx.exporter.calibrate import calibrate
    from detr_onnx.exporter.onnx_file import write_onnx
    from detr_onnx.exporter.ort_file import write_ort
    from detr_onnx.models.metadata import read_model
    from detr_onnx.models.open import locate

    options = export_options(arguments)
    check_usage(arguments, options.batch)
    as_ort = is_ort(arguments.output, arguments.format, arguments.external_data)
    images = calibration_images(arguments.calibrate) if arguments.calibrate is not None else []
    check_report(arguments, images)
    source = locate(arguments.model, offline=arguments.offline, cache_dir=arguments.cache_dir)
    if source.checkpoint is None:
        check_graph_file(source.graph or Path())  # a file of another kind has its own error
        raise UsageError(
            f"{arguments.model} is a graph already",
            expected="a checkpoint: a directory, a .safetensors file, or a Hugging Face model id",
        )
    check_keeps_sources(arguments, source, images)
    model = read_model(source.checkpoint, arguments.config)
    not_reported, report = None, arguments.report
    if images:
        calibration = calibrate(model, images, step_progress, layers=report is not None)
        not_reported = None if report is None else failure_of(lambda: write_report(calibration, report))
        check_agreement(calibration, arguments)
        options = replace(
            options,
            quant_params=calibration.quant_params,
            fp16_feed_forward=calibration.chosen.fp16_feed_forward,
            metadata=calibration.metadata(),
        )
    if as_ort:
        write_ort(arguments.output, *model, options)
    else:
        write_onnx(arguments.output, *model, options, external_data=arguments.external_data)
    logger.info("wrote %s", arguments.output)
    if not_reported is not None:
        raise not_reported
    return 0


def export_options(arguments: Namespace) -> ExportOptions:
    """The options of the graph, before any calibration."""
    from detr_onnx.exporter.onnx_file import ExportOptions

    shape_hw = parse_shape(arguments.shape) if arguments.shape is not None else None
    return ExportOptions(
        shape_hw,
        mask=not arguments.no_mask,
        batch=arguments.batch if arguments.batch is not None else (1 if shape_hw else None),
        precision=arguments.precision,
        fused_attention=arguments.fused_attention,
        end_to_end=arguments.end_to_end,
        attention=arguments.attention,
    )


def check_usage(arguments: Namespace, batch: int | None) -> None:
    """Raises the errors that can be found before a model is read."""
    check_output(arguments.output, batch)
    if arguments.end_to_end and batch is not None:
        raise UsageError("--end-to-end takes one image of any size", found="--shape or --batch", remedy="leave it out")
    if arguments.end_to_end and arguments.attention:
        raise UsageError("--end-to-end writes detections alone", found="--attention", remedy="leave one of them out")
    stray = [f"--{name}" for name in INT8_OPTIONS if getattr(arguments, name)]
    if arguments.precision != "int8" and stray:
        remedy = "add --precision int8"
        raise UsageError(f"{' and '.join(stray)} can be used only with int8", found=arguments.precision, remedy=remedy)
    if arguments.precision == "int8" and arguments.calibrate is None:
        raise UsageError(
            "int8 has to be calibrated with images",
            found="no --calibrate",
            remedy="add --calibrate DIR, with about 100 images like those that the model will see",
        )


def check_output(output: Path, batch: int | None) -> None:
    """Raises what is wrong with `--batch` and with the output file."""
    if batch is not None:
        check_batch(batch)
    if output.suffix not in (".onnx", ".ort"):
        remedy = "let its name end in .onnx or .ort"
        raise UsageError("the output is not an .onnx file", found=str(output), remedy=remedy)
    if not is_directory(output.parent):
        raise OutputError(f"cannot write {output}", found=f"no directory {output.parent}", remedy="create it first")
    if is_directory(output) or not os.access(output.parent, os.W_OK | os.X_OK):
        found = "a directory" if is_directory(output) else f"no permission in {output.parent}"
        raise OutputError(f"cannot write {output}", found=found, remedy="choose another file")


def is_ort(output: Path, requested: str | None, external_data: bool) -> bool:
    """Whether to write ONNX Runtime's format; raises UsageError for options that contradict each other."""
    suffix = f".{requested}" if requested else output.suffix
    if suffix != output.suffix:  # ONNX Runtime tells the formats apart by the suffix alone
        raise UsageError(
            f"the output is not an {suffix} file", found=str(output), remedy=f"let its name end in {suffix}"
        )
    if suffix == ".ort" and external_data:
        raise UsageError(
            "an .ort file contains its weights",
            found="--external-data",
            remedy="leave it out: .ort files are memory-mapped",
        )
    return suffix == ".ort"


def parse_shape(text: str) -> tuple[int, int]:
    """`800x1066` as height and width."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        raise UsageError("the shape is wrong", found=repr(text), expected="height x width in pixels, such as 800x1066")
    return int(match[1]), int(match[2])


def calibration_images(directory: str) -> list[Path]:
    """The images of a directory.

    Raises:
        UsageError: it is not a directory, or may not be read.
        ImageError: it has no images.
    """
    path = Path(directory)
    if not is_directory(path) or not os.access(path, os.R_OK | os.X_OK):
        found = "no permission to read it" if is_directory(path) else "a file" if exists(path) else "no such directory"
        expected = "a directory of images"
        raise UsageError(f"cannot calibrate with {path}", found=found, expected=expected, remedy="check the path")
    images, errors = find_images([directory])
    if errors:
        raise errors[0]
    return [image.path for image in images if image.path is not None]


def check_keeps_sources(arguments: Namespace, source: Source, images: Sequence[Path]) -> None:
    """Raises OutputError if a file that is written is one of those that are read, such as by a link to it."""
    from detr_onnx.models.open import model_files

    checkpoint = source.checkpoint or Path()
    of_model = [*model_files(source), *(checkpoint / name for name in MODEL_JSON)]
    for file in written_files(arguments.output):
        check_keeps_inputs(file, "-o", arguments.config, *of_model, *images)


def written_files(output: Path) -> tuple[Path, ...]:
    """The output, and what may be written beside it."""
    from detr_onnx.exporter.external_data import data_path
    from detr_onnx.exporter.ort_file import CONFIG_SUFFIX

    return output, data_path(output) if output.suffix == ".onnx" else output.with_suffix(CONFIG_SUFFIX)


def check_report(arguments: Namespace, images: Sequence[Path]) -> None:
    """Raises OutputError if the report cannot be written, or would replace a file that is read or written."""
    if arguments.report in (None, "-"):
        return
    report = Path(arguments.report)
    check_destination(report, "--report", [arguments.model], arguments.config, *images)
    if os.path.realpath(report) in {os.path.realpath(file) for file in written_files(arguments.output)}:
        raise OutputError(f"--report would overwrite {report}, which is also an output", remedy="choose another file")


def check_agreement(calibration: Calibration, arguments: Namespace) -> None:
    """Raises DetrError if int8 differs too much from fp32, and --force is not given."""
    chosen, refusal = calibration.chosen, calibration.chosen.refusal()
    logger.info("int8 by %s, %d layers in float", chosen.method, len(chosen.float_layers))
    if refusal and not arguments.force:
        raise DetrError(
            f"int8 does not agree with fp32 on the images in {arguments.calibrate}",
            found=refusal[0],
            expected=refusal[1],
            remedy="calibrate with more images like those that it will see, use int8-weights, or add --force",
        )
    if refusal:
        logger.warning("int8 was forced: %s, expected %s", *refusal)


def write_report(calibration: Calibration, output: str) -> None:
    """Writes the calibration's report as JSON to a file or, for "-", to stdout."""
    write_result(Path(output), json.dumps(calibration.report(), indent=1) + "\n")
