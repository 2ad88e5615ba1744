"""`detr-onnx export`: a checkpoint as one .onnx file; for int8 it is calibrated, and held against fp32, before."""

from __future__ import annotations

import json
import logging
import os
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detr_onnx.cli.console import check_place, progress, tell, write
from detr_onnx.errors import DetrError, OutputError, UsageError
from detr_onnx.exporter.calibrate import Calibration, Model, calibrate
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.exporter.ort_file import write_ort
from detr_onnx.image.files import find_images
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import locate

ONLY_INT8 = ("calibrate", "report", "force")

logger = logging.getLogger(__name__)


def export(arguments: Namespace) -> int:
    """Writes the file that the options describe."""
    shape_hw = parse_shape(arguments.shape) if arguments.shape is not None else None
    batch = arguments.batch if arguments.batch is not None else (1 if shape_hw else None)
    check_usage(arguments, batch)
    as_ort = check_format(arguments.output, arguments.format, arguments.external_data)
    images = calibration_images(arguments.calibrate) if arguments.calibrate is not None else []
    source = locate(arguments.model, offline=arguments.offline, cache_dir=arguments.cache_dir)
    if source.checkpoint is None:
        raise UsageError(
            f"{arguments.model} is a graph already",
            expected="a checkpoint: a directory with model.safetensors, a .safetensors file, or a name of the hub",
        )
    model = read_model(source.checkpoint, arguments.config)
    form = ExportOptions(
        shape_hw,
        mask=not arguments.no_mask,
        batch=batch,
        precision=arguments.precision,
        fused_attention=arguments.fused_attention,
        end_to_end=arguments.end_to_end,
    )
    if images:
        found = judged(model, images, arguments)
        form = replace(
            form,
            quant_params=found.quant_params,
            fp16_feed_forward=found.chosen.fp16_feed_forward,
            metadata=found.metadata(),
        )
    if as_ort:
        write_ort(arguments.output, *model, form)
    else:
        write_onnx(arguments.output, *model, form, external_data=arguments.external_data)
    logger.info("wrote %s", arguments.output)
    return 0


def check_usage(arguments: Namespace, batch: int | None) -> None:
    """Raises what can be told of the options before a model is read."""
    check_output(arguments.output, batch)
    if arguments.end_to_end and batch is not None:
        raise UsageError("--end-to-end takes one image of any size", found="--shape or --batch", remedy="leave it out")
    stray = [f"--{name}" for name in ONLY_INT8 if getattr(arguments, name)]
    if arguments.precision != "int8" and stray:
        remedy = "add --precision int8"
        raise UsageError(f"{' and '.join(stray)} can be used only with int8", found=arguments.precision, remedy=remedy)
    if arguments.precision == "int8" and arguments.calibrate is None:
        raise UsageError(
            "int8 needs images to be calibrated with",
            found="no --calibrate",
            remedy="add --calibrate DIR, with 100 or so images like those that the network will see",
        )
    if arguments.report not in (None, "-"):
        check_place(Path(arguments.report), remedy="choose another file, or - for stdout")


def check_output(output: Path, batch: int | None) -> None:
    """Raises what is wrong with `--batch` and with the file to write."""
    if batch is not None and batch < 1:
        raise UsageError("the batch is wrong", found=str(batch), expected="a number of images from 1 up")
    if output.suffix not in (".onnx", ".ort"):
        remedy = "let its name end in .onnx or .ort"
        raise UsageError("the output is no .onnx file", found=str(output), remedy=remedy)
    if not output.parent.is_dir():
        raise OutputError(f"cannot write {output}", found=f"no directory {output.parent}", remedy="create it first")
    if output.is_dir() or not os.access(output.parent, os.W_OK | os.X_OK):
        found = "a directory" if output.is_dir() else f"no permission in {output.parent}"
        raise OutputError(f"cannot write {output}", found=found, remedy="choose another file")


def check_format(output: Path, asked: str | None, external_data: bool) -> bool:
    """Whether to write ONNX Runtime's format; raises what does not go together."""
    suffix = f".{asked}" if asked else output.suffix
    if suffix != output.suffix:  # ONNX Runtime tells the formats apart by the suffix alone
        raise UsageError(f"the output is no {suffix} file", found=str(output), remedy=f"let its name end in {suffix}")
    if suffix == ".ort" and external_data:
        raise UsageError(
            "an .ort file holds its weights", found="--external-data", remedy="leave it out: .ort files are mapped"
        )
    return suffix == ".ort"


def parse_shape(text: str) -> tuple[int, int]:
    """`800x1066` as height and width."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if found is None:
        raise UsageError("the shape is wrong", found=repr(text), expected="height x width in pixels, such as 800x1066")
    return int(found[1]), int(found[2])


def calibration_images(directory: str) -> list[Path]:
    """The images of a directory.

    Raises:
        UsageError: when it is no directory, or may not be read.
        ImageError: when there are none.
    """
    place = Path(directory)
    if not place.is_dir() or not os.access(place, os.R_OK | os.X_OK):
        found = "no permission to read it" if place.is_dir() else "a file" if place.exists() else "no such directory"
        expected = "a directory of images"
        raise UsageError(f"cannot calibrate with {place}", found=found, expected=expected, remedy="check the path")
    images, missing = find_images([directory])
    if missing:
        raise missing[0]
    return [image.path for image in images if image.path is not None]


def judged(model: Model, images: Sequence[Path], arguments: Namespace) -> Calibration:
    """The calibration, reported where that was asked for.

    Raises:
        DetrError: when the gate stays shut and is not forced.
    """
    found = calibrate(model, images, shown, layers=arguments.report is not None)
    chosen, trouble = found.chosen, found.chosen.trouble()
    logger.info("int8 by %s, %d layers in float", chosen.method, len(chosen.floats))
    if arguments.report is not None:
        report(found, arguments.report)
    if trouble and not arguments.force:
        raise DetrError(
            f"int8 does not agree with fp32 on the images in {arguments.calibrate}",
            found=trouble[0],
            expected=trouble[1],
            remedy="calibrate with more images like those it will see, use int8-weights, or write it with --force",
        )
    if trouble:
        logger.warning("int8 was forced: %s, expected %s", *trouble)
    return found


def shown(what: str, items: Sequence[Any]) -> Iterator[Any]:
    """Passes the items on, with a line on a terminal of how far it is."""
    logger.info("%s", what)
    with progress(len(items)) as show:
        for number, item in enumerate(items, start=1):
            show(number, what)
            yield item


def report(found: Calibration, place: str) -> None:
    """Writes what calibrating found, as JSON, to a file or, for "-", to stdout."""
    text = json.dumps(found.report(), indent=1) + "\n"
    if place == "-":
        tell(text)
    else:
        write(Path(place), text)
